# SPDX-License-Identifier: Apache-2.0
"""A stock kernel under a debugger."""

from lib.gdb import Gdb
from lib.testing import scenario

GUEST_OFF = 0
STEPS = 50
KERNEL_TEXT = 0xffffffff80000000


FUNCTIONS = ["do_idle", "cpu_startup_entry", "ksys_sync", "__do_sys_sync", "__x64_sys_sync"]


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


def check_first_steps(t, gdb):
    """Nothing has run: steps go forward from the kernel's entry, one instruction each."""
    before = gdb.rip()
    seen = {before}
    for _ in range(STEPS):
        gdb.step(1)
        seen.add(gdb.rip())
    t.check(len(seen) > STEPS // 2, f"{STEPS} steps from {before:#x} reached {len(seen)} addresses")


def check_idle(t, gdb, symbols):
    """A kernel that waits is in its idle loop, and the stack says how it came there."""
    gdb.go_on()
    for _ in range(20):
        t.check(gdb.interrupt().startswith("T02thread:1;"), "an interrupt stops the machine")
        stack = {symbols.name(address) for address in gdb.stack(40) if address > KERNEL_TEXT}
        if {"do_idle", "cpu_startup_entry"} <= stack:
            return
        gdb.go_on()
    t.fail(f"the kernel is in {symbols.name(gdb.rip())}, called from {sorted(stack)}")


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
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""),
                  "--kaslr", "off", "--gdb", "unix:" + t.path("gdb"), "--wait-gdb") as vm:
        with Gdb(t.path("gdb")) as gdb:
            check_first_steps(t, gdb)
            gdb.detach()
        vm.login()
        symbols = read_symbols(t, vm)
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
