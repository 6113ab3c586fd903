# SPDX-License-Identifier: Apache-2.0
"""
A command that runs in a guest of `scripts/guest-image bench`, or on the host, and what it costs.

The job is a shell script on a small disk. /init of the guest (scripts/guest/bench-init) runs it
with $disk1, $disk2 …, $FIO, $SYSBENCH and enter_files; adapters/host.py runs the same script on
the host. It prints

    bench: begin        the clock and the counters of the VMM are read
    bench: end STATUS   and read again
    … the command's output …
    bench: done
"""

import dataclasses
import os
import re

from lib import cost
from lib.guest import Disk
from lib.part import BOOT_TIMEOUT_S
from lib.paths import GUEST

HOST = "host"
PROGRAMS = os.path.join(GUEST, "bench")
MAGIC = "# minivmm benchmark job\n"
# What a command may need beyond the time that it was given.
PATIENCE_S = 120
BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the command printed, and what its time took of the host."""
    output: str
    seconds: float
    cost: cost.Cost


def script(command, before=":"):
    """The job that runs `command`, a line of shell, after the line `before`, not measured."""
    return (f"{MAGIC}{before}\n"
            'echo "bench: begin"\n'
            f"{{ {command}; }} </dev/null >/tmp/output.$$ 2>&1\n"
            'echo "bench: end $?"\n'
            "cat /tmp/output.$$\n"
            "rm /tmp/output.$$\n"
            'echo "bench: done"\n')


def disk(folder, name):
    """The disk of a job, whose file write() makes."""
    return Disk(os.path.join(folder, name + ".job"), format="raw", readonly=True, role="job",
                fresh=False)


def write(attempt, text):
    """Write the job to the attempt's disk for it: whole blocks, padded with newlines."""
    path = next(disk.path for disk in attempt.guest.disks if disk.role == "job")
    data = text.encode()
    with open(path, "wb") as f:
        f.write(data + b"\n" * (-len(data) % BLOCK))


def run(attempt, seconds):
    """Run the attempt's job, which is to take `seconds`. RuntimeError if it fails."""
    with attempt.start() as process:
        start = process.wait_for(b"bench: begin", BOOT_TIMEOUT_S)
        before = cost.read(process.process.pid)
        ended = process.wait_for(b"bench: end ", start + seconds + PATIENCE_S)
        after = cost.read(process.process.pid)
        process.wait_for(b"bench: done", ended + PATIENCE_S)
        if attempt.side.ends_by == "poweroff":
            process.wait_end(process.elapsed() + PATIENCE_S)
        text = process.output.decode(errors="replace").replace("\r", "")
    status, output = re.search(r"^bench: end (\d+)\n(.*?)^bench: done", text, re.M | re.S).groups()
    if status != "0":
        raise RuntimeError(f"the command failed with status {status}: {output[-600:]}")
    return Outcome(output, ended - start, after - before)
