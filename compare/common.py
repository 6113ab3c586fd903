# SPDX-License-Identifier: Apache-2.0
"""What the comparison scripts share: the guest, the adapters, running a VMM, tables and JSON.

An adapter is compare/adapters/NAME.py with two functions: version_argv() and argv(guest).
"""

import dataclasses
import importlib
import json
import os
import platform
import selectors
import shlex
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "build/compare")
MARKER = b"minivmm-guest: userspace"


@dataclasses.dataclass
class Guest:
    kernel: str
    initrd: str = ""
    memory_mib: int = 256
    cpus: int = 1
    cmdline: str = "console=ttyS0 quiet reboot=t panic=-1"
    disk: str = ""
    disk_format: str = "qcow2"


def adapter(name):
    return importlib.import_module("adapters." + name.replace("-", "_"))


def available(names):
    """The adapters whose program is here; the others are named on stderr."""
    found = []
    for name in names:
        try:
            subprocess.run(adapter(name).version_argv(), stdout=subprocess.DEVNULL, check=True)
            found.append(name)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
    return found


def version(name):
    out = subprocess.run(adapter(name).version_argv(), capture_output=True, text=True, check=True)
    return out.stdout.splitlines()[0]


class Run:
    """One VMM process with its serial output; killed and reaped at the end of the with block."""

    def __init__(self, argv):
        self.argv = argv
        self.output = b""

    def __enter__(self):
        self.start = time.monotonic()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.stdout.close()
        self.process.wait()

    def wait_for(self, marker, timeout_s):
        """Seconds from exec until `marker` was printed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while marker not in self.output:
                left = self.start + timeout_s - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError(self.failure(f"no {marker!r} in {timeout_s} s"))
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise RuntimeError(self.failure("ended early"))
                self.output += data
        return time.monotonic() - self.start

    def failure(self, what):
        tail = self.output[-600:].decode(errors="replace")
        return f"{shlex.join(self.argv)}: {what}; its last output:\n{tail}"


def move_to_capable_host(files, out_dir):
    """Where this machine's KVM cannot run a stock kernel, run this script in the emulated host."""
    capable = os.path.join(ROOT, "scripts/kvm-capable")
    if os.environ.get("MINIVMM_EMULATED_HOST") or subprocess.call([capable]) == 0:
        return
    os.makedirs(out_dir, exist_ok=True)
    command = [os.path.join(ROOT, "scripts/emulated-host"), "run", "--out", out_dir,
               "--env", "MINIVMM_EMULATED_HOST=1"]
    for path in [os.path.join(ROOT, "compare"), os.path.join(ROOT, "build/release/minivmm"),
                 *(os.path.abspath(f) for f in files if f)]:
        command += ["--in", path]
    sys.stdout.flush()
    os.execv(command[0], command + ["--", os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return (values[middle - 1] + values[middle]) / 2


def table(headings, rows):
    cells = [headings] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    for row in cells:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def machine():
    return {"kernel": platform.release(), "cpus": os.cpu_count(),
            "hypervisor_kernel": platform.version()}


def write_json(path, data):
    if not path:
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
    print(f"wrote {path}")
