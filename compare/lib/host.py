# SPDX-License-Identifier: Apache-2.0
"""
Where things run: on this machine if its KVM runs a stock kernel, in the emulated host otherwise
(scripts/emulated-host). The results say which, and what the machine is.
"""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading

from lib import progress
from lib.paths import COMPARE, ROOT, SCRATCH
from lib.results import lock

INSIDE = "MINIVMM_EMULATED_HOST"
MACHINE = "MINIVMM_COMPARE_MACHINE"
# The emulated host has these itself; see its list of packages.
IN_THE_HOST = ("qemu-system-x86_64",)
# Libraries of the C library itself, which the emulated host has too.
C_LIBRARY = re.compile(r"/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util))\.so")
# QEMU's emulation of nested virtualisation freezes now and then.
SILENCE_S = 120
TRIES = 4


def inside():
    return bool(os.environ.get(INSIDE))


def here_reason():
    """"" if a stock kernel runs on this machine's KVM, else why not."""
    probe = subprocess.run([os.path.join(ROOT, "scripts/kvm-capable")], stdout=subprocess.PIPE,
                           text=True, check=False)
    return "" if probe.returncode == 0 else probe.stdout.strip()


def local_machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    with open("/proc/meminfo", encoding="ascii") as f:
        memory_kib = int(re.search(r"MemTotal:\s*(\d+)", f.read())[1])
    return {"cpu": cpu[1].strip() if cpu else platform.machine(), "cpus": os.cpu_count(),
            # What a kernel keeps for itself differs a little from boot to boot.
            "memory_mib": round(memory_kib / 16384) * 16, "kernel": platform.release()}


def machine():
    """Of the emulated host, the machine that runs it comes first."""
    outer = os.environ.get(MACHINE)
    if not outer:
        return local_machine()
    return {**json.loads(outer), "emulated": local_machine()}


def where():
    return "emulated host" if inside() else "machine"


def shared_libraries(program):
    """Files that a program needs besides the C library."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    found = re.findall(r"(?:=> )?(/\S+) \(0x", out)
    return [path for path in found if not C_LIBRARY.search(path)]


def program_files(programs):
    """Programs that go with the run, and what they need."""
    return [path for program in programs for path in (program, *shared_libraries(program))]


def merged(path):
    """The path with /lib, /bin and their like as what they are links to: the host's stay links."""
    _, top, *rest = os.path.abspath(path).split("/")
    return os.path.join(os.path.realpath("/" + top), *rest)


def with_targets(files):
    """Absolute paths, each once; of links, their targets too."""
    paths = [path for f in files if f for path in (merged(f), os.path.realpath(f))]
    return list(dict.fromkeys(paths))


class Hosts:
    """Runs this program again in an emulated host, in another one if that freezes."""

    def __init__(self, argv):
        self.argv = argv
        self.display = progress.Display()
        self.process = None
        self.stopped = False
        self.heard = threading.Event()

    def stop(self, *_):
        self.stopped = True
        if self.process:
            self.process.terminate()

    def _end_when_silent(self, process):
        while process.poll() is None:
            self.heard.clear()
            # Seconds in which this program ran: somebody may stop all of it for a while.
            if not any(self.heard.wait(1) for _ in range(SILENCE_S)) and process.poll() is None:
                process.terminate()
                process.terminate()

    def _run_once(self):
        """Its exit status, and whether the program in it ended by itself."""
        env = {**os.environ, progress.SENDS: "1", MACHINE: json.dumps(local_machine())}
        # In a session of its own: a Ctrl-C reaches it through stop(), once.
        # Locks that this program was started with are held as long as that runs.
        with subprocess.Popen(self.argv, env=env, stdin=subprocess.DEVNULL, text=True,
                              stderr=subprocess.PIPE, errors="replace", close_fds=False,
                              start_new_session=True) as self.process:
            watchdog = threading.Thread(target=self._end_when_silent, args=(self.process,))
            watchdog.start()
            if self.stopped:
                self.process.terminate()
            ended = progress.follow(self.process.stderr, self.display, self.heard.set)
            self.process.wait()
            self.heard.set()
            watchdog.join()
        return self.process.returncode, ended

    def run(self):
        for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signo, self.stop)
        try:
            for _ in range(TRIES):
                status, ended = self._run_once()
                if ended or self.stopped:
                    return status
                self.display.say("the emulated host ended early; another one goes on")
            return status
        finally:
            self.display.close()


def move(sides, files, results, memory_mib):
    """
    Run this program in the emulated host and return its exit status. `results`, a file, is taken
    along and comes back; of all other files, copies go.
    """
    carried = [side for side in sides if os.path.basename(side.program) not in IN_THE_HOST]
    scratch = os.path.join(os.path.dirname(results), SCRATCH)
    os.makedirs(scratch, exist_ok=True)
    with open(results, "ab") as file:
        lock(file, results)
        return Hosts(host_command(carried, sides, files, results, scratch, memory_mib)).run()


def host_command(carried, sides, files, results, scratch, memory_mib):
    command = [os.path.join(ROOT, "scripts/emulated-host"), "run", "--mem", str(memory_mib),
               "--inout", results, "--out", scratch, "--env", INSIDE + "=1",
               "--env", progress.SENDS + "=1",
               "--env", f"{MACHINE}={json.dumps(local_machine())}"]
    programs = program_files(side.program for side in carried)
    for path in with_targets([COMPARE, *programs, *files]):
        command += ["--in", path]
    program = [os.path.abspath(sys.argv[0]), *sys.argv[1:],
               "--vmms", ",".join(side.name for side in sides)]
    for side in carried:
        program += ["--vmm", f"{side.name}={side.program}"]
    return command + ["--", *program]


def drop_caches():
    """Forget what is in the page cache, so that files are read from their disk again."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")
