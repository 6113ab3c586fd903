# SPDX-License-Identifier: Apache-2.0
"""What a scenario is made of: registration, files, helpers, and the loop that runs scenarios."""

import concurrent.futures
import contextlib
import dataclasses
import glob
import hashlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

from lib.vm import Vm

KEPT_FILE_BYTES = 64 << 20
# Longer than any scenario takes on a busy machine; what it waits for has failed before.
SCENARIO_LIMIT_S = 600 + 5 * int(os.environ.get("E2E_TRANSFER_MIB", "0"))
# How often a run says that it goes on, see ALIVE.
ALIVE_S = 20
ALIVE = "ALIVE"
TOOL_TIMEOUT_S = 300
WAIT_TIMEOUT_S = 120


class Skip(Exception):
    pass


class Failure(Exception):
    pass


@dataclasses.dataclass
class Scenario:
    name: str
    summary: str
    function: object
    seconds: int
    guest: list


SCENARIOS = {}


def scenario(seconds=10, guest=("busybox",)):
    def register(function):
        SCENARIOS[function.__name__] = Scenario(
            function.__name__, function.__doc__.strip().splitlines()[0], function, seconds,
            list(guest))
        return function
    return register


def load(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            importlib.import_module("scenarios." + name[:-3])
    return SCENARIOS


class Test:
    """Given to each scenario: its folder, its guests and its tools."""

    def __init__(self, name, folder, guest):
        self.name = name
        self.folder = folder
        self.guest = guest
        self.minivmm = os.environ["MINIVMM"]
        self.seed = int.from_bytes(
            hashlib.sha256(f"{os.environ['E2E_SEED']} {name}".encode()).digest()[:8], "big")
        self.vms = []

    # ---- results

    def fail(self, text):
        raise Failure(text)

    def skip(self, reason):
        raise Skip(reason)

    def check(self, holds, text):
        if not holds:
            raise Failure(text)

    def equal(self, actual, expected, what):
        if actual != expected:
            raise Failure(f"{what}: expected {expected!r}, got {actual!r}")

    def wait_until(self, holds, what, timeout=WAIT_TIMEOUT_S):
        """What `holds()` returns once that is something."""
        deadline = time.monotonic() + timeout
        while not (value := holds()):
            self.check(time.monotonic() < deadline, f"{what}: not in {timeout} s")
            time.sleep(0.1)
        return value

    # ---- files and tools

    def path(self, name):
        return os.path.join(self.folder, name)

    def guest_file(self, name):
        return os.path.join(self.guest, name)

    def tool(self, *argv, statuses=(0,), shown=None):
        """
        Run a program; its output goes to tools.log. Returns its stdout. `shown`: the part of the
        command line that a failure names, if not the whole.
        """
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                timeout=TOOL_TIMEOUT_S)
        with open(self.path("tools.log"), "ab") as log:
            log.write(f"$ {' '.join(argv)}\n".encode() + result.stdout + result.stderr +
                      f"exit status {result.returncode}\n".encode())
        if result.returncode not in statuses:
            lines = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise Failure(f"{' '.join((shown or argv)[:3])}: exit status {result.returncode}: "
                          f"{lines.splitlines()[-1] if lines else 'no output'}")
        return result.stdout

    def qemu_img(self, *args, statuses=(0,)):
        return self.tool("qemu-img", *args, statuses=statuses)

    def check_qcow2(self, name, leaks_allowed=False):
        """qemu-img check: 0 is clean, 3 leaked clusters only."""
        self.qemu_img("check", "-f", "qcow2", self.path(name),
                      statuses=(0, 3) if leaks_allowed else (0,))

    def to_raw(self, name):
        """The guest's view of a qcow2 image, through another implementation."""
        raw = self.path(name + ".raw")
        self.qemu_img("convert", "-O", "raw", self.path(name), raw)
        return raw

    # ---- virtual machines

    def needs_option(self, option):
        """Skip where minivmm has no such option."""
        if option not in self.tool(self.minivmm, "--help").decode().replace(",", " ").split():
            raise Skip(f"this minivmm has no {option}")

    def vm(self, *args, network=None, **options):
        """A VMM; in a network of lib/network.py an ordinary user starts it."""
        argv = [self.minivmm, *args]
        if network:
            network.share_files()
            argv = network.argv(*argv)
        machine = Vm(argv, self.path(f"vm{len(self.vms)}.log"), **options)
        self.vms.append(machine)
        return machine

    def busybox(self, *args, do="poweroff", append="", kernel="", memory="192M", devices=False,
                **options):
        """
        A guest that is in user space in seconds. `kernel` is "" for Debian 12's, "-13". With
        `devices`, all of busybox, `sockets` and modules for `modprobe NAME` are there.
        """
        initrds = [f"initramfs-busybox{kernel}.cpio.gz"]
        if devices:
            initrds.append(f"initramfs-devices{kernel}.cpio.gz")
        return self.vm("--kernel", self.guest_file("vmlinuz" + kernel),
                       *(word for name in initrds for word in ("--initrd", self.guest_file(name))),
                       "--memory", memory, "--append", f"quiet minivmm.do={do} {append}".strip(),
                       *args, **options)

    def debian(self, *args, **options):
        return self.vm("--kernel", self.guest_file("vmlinuz"),
                       "--initrd", self.guest_file("initrd.img"), *args, **options)

    def clean_up(self, keep):
        for machine in self.vms:
            machine.close()
        for name in os.listdir(self.folder):
            path = self.path(name)
            if name.endswith(".log") or os.path.isdir(path):
                continue
            if not keep or os.stat(path).st_blocks * 512 > KEPT_FILE_BYTES:
                os.unlink(path)


def one_line(error):
    text = str(error).strip().replace("\r", "").split("\n")[0]
    return text or type(error).__name__


def run_one(item, logs, guest):
    """Returns PASS, FAIL or SKIP, and the reason."""
    folder = os.path.join(logs, item.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    test = Test(item.name, folder, guest)
    try:
        item.function(test)
        result, reason = "PASS", ""
    except Skip as skip:
        result, reason = "SKIP", one_line(skip)
    except Exception as error:  # noqa: BLE001: whatever it is, it is this scenario's failure
        result, reason = "FAIL", one_line(error)
        with open(test.path("failure.log"), "w", encoding="utf-8") as log:
            traceback.print_exc(file=log)
            log.write(f"E2E_SEED={os.environ['E2E_SEED']}\n")
    test.clean_up(keep=result == "FAIL")
    return result, reason


def kill_children():
    """End what this process started: VMMs have sessions of their own, and would run on."""
    for path in glob.glob("/proc/self/task/*/children"):
        pids = []
        with contextlib.suppress(OSError), open(path, encoding="ascii") as f:  # a thread that ended
            pids = [int(pid) for pid in f.read().split()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def give_up_on(started):
    """
    Report scenarios that do not end: {name: (thread, when it started)}. What they hold cannot be
    taken back, so that the run ends here; others that were not finished are run again by the caller.
    """
    now = time.monotonic()
    frames = sys._current_frames()
    for name, (thread, start) in started.items():
        if now - start < SCENARIO_LIMIT_S:
            continue
        stack = traceback.extract_stack(frames.get(thread))
        here = [frame for frame in stack if os.sep + "scenarios" + os.sep in frame.filename][-1:]
        where = "".join(f", at line {frame.lineno} of {os.path.basename(frame.filename)}"
                        for frame in here)
        print(f"FAIL {name}: has not ended after {now - start:.0f} s{where}")
    sys.stdout.flush()
    kill_children()
    os._exit(1)


def run_all(scenarios, logs, guest):
    """
    Run scenarios, as many at a time as there are processors, long ones first. A line "ALIVE" from
    time to time tells the caller that this machine has not frozen.
    """
    failed = False
    started = {}

    def timed(item):
        start = time.monotonic()
        started[item.name] = threading.get_ident(), start
        result = run_one(item, logs, guest)
        del started[item.name]
        return item, *result, time.monotonic() - start

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(timed, item) for item in sorted(scenarios, key=lambda s: -s.seconds)}
        while jobs:
            done, jobs = concurrent.futures.wait(jobs, ALIVE_S,
                                                 concurrent.futures.FIRST_COMPLETED)
            print(ALIVE, flush=True)
            for job in done:
                item, result, reason, seconds = job.result()
                failed = failed or result == "FAIL"
                print(f"{result} {item.name}: {reason}" if reason else
                      f"{result} {item.name} ({seconds:.0f} s)", flush=True)
            now = time.monotonic()
            if any(now - start >= SCENARIO_LIMIT_S for _, start in list(started.values())):
                give_up_on(dict(started))
    return 1 if failed else 0
