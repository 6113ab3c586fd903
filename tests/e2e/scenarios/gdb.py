# SPDX-License-Identifier: Apache-2.0
"""A stock kernel under a debugger."""

import itertools
import re
import shutil
import signal
import subprocess
import time

from lib.gdb import Gdb
from lib.symbols import write_symbols
from lib.testing import scenario

GUEST_OFF = 0
STEPS = 50
KERNEL_TEXT = 0xffffffff80000000
# A Debian on a busy machine is long at work after its login prompt.
IDLE_S = 120
GDB_S = 400

FUNCTIONS = ["native_safe_halt", "default_idle", "arch_cpu_idle", "default_idle_call", "do_idle",
             "cpu_startup_entry", "ksys_sync", "__do_sys_sync", "__x64_sys_sync"]
GDB_SETTINGS = ["set pagination off", "set remotetimeout 60", "set architecture i386:x86-64"]


class Symbols:
    """Some functions of a guest's kernel, by its own list, in which the next one ends each."""

    def __init__(self, lines):
        self.ranges = {}
        for line, following in zip(lines, lines[1:]):
            if line[2] in FUNCTIONS:
                self.ranges[line[2]] = (int(line[0], 16), int(following[0], 16))

    def address(self, name):
        return self.ranges[name][0]

    def name(self, address):
        for name, (begin, end) in self.ranges.items():
            if begin <= address < end:
                return name
        return hex(address)


def read_symbols(t, vm):
    status, text = vm.sh(f"grep -A1 -wE '{'|'.join(FUNCTIONS)}' /proc/kallsyms | grep -v -- --")
    t.equal(status, 0, "reading /proc/kallsyms")
    return Symbols([line.split() for line in text.splitlines()])


class StockGdb:
    """The program gdb, in batch mode: from construction on it carries out a script."""

    def __init__(self, t, name, *commands):
        self.log = t.path(name + ".log")
        with open(t.path(name + ".gdb"), "w", encoding="utf-8") as script:
            script.write("\n".join([*GDB_SETTINGS, *commands]) + "\n")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["gdb", "-nx", "-batch", "-x", script.name],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

    def interrupt(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, t):
        """What the whole script printed."""
        try:
            t.equal(self.process.wait(GDB_S), 0, "exit status of gdb")
        finally:
            self.process.kill()
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()


def marked(output, name):
    """What gdb printed between two marks."""
    return output.split(f"begin {name}\n", 1)[-1].split(f"end {name}\n", 1)[0]


def mark(name, *commands):
    return [f"echo begin {name}\\n", *commands, f"echo end {name}\\n"]


def register_in(text, name):
    match = re.search(rf"^{name} +(0x[0-9a-f]+)", text, re.M)
    return int(match.group(1), 16) if match else None


def check_stock_gdb_steps(t, output):
    """Nothing has run: the kernel's entry is stepped, in long mode, by a gdb that knows all registers."""
    first = marked(output, "entry")
    t.check("Thread 1 (CPU 0" in first and "Thread 2 (CPU 1" in first, f"threads at first: {first}")
    before, after = register_in(first, "rip"), register_in(marked(output, "stepped"), "rip")
    t.check(None not in (before, after) and before != after, f"steps went from {before} to {after}")
    for name in ("efer", "cr0", "cr3", "fs_base", "mxcsr"):
        t.check(register_in(first, name) is not None, f"gdb does not know {name}: {first}")


def check_stock_gdb_interrupt(t, output):
    """A guest that waits at its login is stopped by Ctrl-C, in the kernel or above it, and steps."""
    t.check("SIGINT" in output, f"gdb was not told of the interrupt: {output[-300:]}")
    stopped = marked(output, "login")
    t.check("Thread 2 (CPU 1" in stopped, f"threads at the login: {stopped}")
    t.check(register_in(stopped, "cr0") & 0x80000001 == 0x80000001, f"cr0: {stopped}")
    t.check(register_in(marked(output, "stepped again"), "rip"), "registers after a step")


def check_stock_gdb_backtrace(t, symbols):
    """A halted CPU: the function, who called it, and what lies on the stack, by their names."""
    write_symbols(t.path("symbols"), symbols.ranges)
    commands = ["symbol-file " + t.path("symbols"), "target remote " + t.path("gdb"),
                *mark("threads", "info threads"), *mark("trace", "backtrace 4"),
                *mark("stack", "x/60ga $sp"), "stepi", *mark("step", "info registers rip"), "detach"]
    deadline = time.monotonic() + IDLE_S
    for attempt in itertools.count():
        output = StockGdb(t, f"gdb-trace{attempt}", *commands).finish(t)
        if "CPU 0, halted" in marked(output, "threads") or time.monotonic() > deadline:
            break
    t.check("CPU 0, halted" in output, f"CPU 0 is never halted: {marked(output, 'threads')}")
    trace = marked(output, "trace")
    t.check(re.search(r"#0 .* in (native_safe_halt|default_idle) ", trace) and
            re.search(r"#[123] .* in default_idle_call ", trace), f"the backtrace: {trace!r}")
    stack = marked(output, "stack")
    t.check("<do_idle+" in stack and "<cpu_startup_entry+" in stack, f"the stack: {stack}")
    t.check(register_in(marked(output, "step"), "rip") > KERNEL_TEXT, "a step after hlt")


def check_idle(t, gdb, symbols):
    """A kernel that waits is in its idle loop, and the stack says how it came there."""
    deadline = time.monotonic() + IDLE_S
    while True:
        gdb.go_on()
        time.sleep(0.2)
        t.check(gdb.interrupt().startswith("T02thread:1;"), "an interrupt stops the machine")
        stack = {symbols.name(address) for address in gdb.stack(40) if address > KERNEL_TEXT}
        if {"do_idle", "cpu_startup_entry"} <= stack:
            return
        t.check(time.monotonic() < deadline,
                f"the kernel is in {symbols.name(gdb.rip())}, called from {sorted(stack)}")


def check_steps(t, gdb):
    for _ in range(STEPS):
        gdb.step(1)
        t.check(gdb.rip() > KERNEL_TEXT, f"a step led from the kernel to {gdb.rip():#x}")


def check_breakpoint(t, gdb, vm, symbols):
    """False: this host's KVM has none."""
    address = symbols.address("ksys_sync")
    if gdb.ask(f"Z0,{address:x},1") != "OK":
        return False
    gdb.go_on()
    vm.send("sync; echo syn''ced\n")
    t.check("swbreak" in gdb.receive(), "the kernel stops at ksys_sync")
    t.equal(symbols.name(gdb.rip()), "ksys_sync", "where it stopped")
    callers = [symbols.name(word) for word in gdb.stack(1)]
    t.check(callers[0].endswith("sys_sync"), f"ksys_sync is called from {callers[0]}")
    gdb.expect(f"z0,{address:x},1", "OK")
    check_steps(t, gdb)
    gdb.go_on()
    vm.expect("synced")
    vm.shell()
    gdb.interrupt()
    return True


@scenario(seconds=90, guest=["debian"])
def gdb_stops_steps_and_lets_a_kernel_go(t):
    """A Debian waits for gdb, is stepped, boots to its login, is looked at, and goes on."""
    if not shutil.which("gdb"):
        t.skip("gdb is not installed: scripts/setup guest")
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""), "--cpus", "2",
                  "--kaslr", "off", "--gdb", "unix:" + t.path("gdb"), "--wait-gdb") as vm:
        gdb = StockGdb(
            t, "gdb-boot", "target remote " + t.path("gdb"),
            *mark("entry", "info threads", "info registers rip efer cr0 cr3 fs_base mxcsr"),
            f"stepi {STEPS}", *mark("stepped", "info registers rip"), "continue",
            *mark("login", "info threads", "info registers rip cr0"),
            "stepi", *mark("stepped again", "info registers rip"), "detach")
        vm.login()
        gdb.interrupt()
        output = gdb.finish(t)
        check_stock_gdb_steps(t, output)
        check_stock_gdb_interrupt(t, output)
        symbols = read_symbols(t, vm)
        check_stock_gdb_backtrace(t, symbols)
        with Gdb(t.path("gdb")) as gdb:
            check_idle(t, gdb, symbols)
            check_steps(t, gdb)
            if not check_breakpoint(t, gdb, vm, symbols):
                print(f"  {t.name}: breakpoints are not tested: this host's KVM has none")
            gdb.detach()
        t.equal(vm.sh("echo $((6 * 7))")[1].strip(), "42", "the guest after gdb")
        vm.send("poweroff\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status after poweroff")
    t.check_qcow2("overlay.qcow2")
