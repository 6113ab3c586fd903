# SPDX-License-Identifier: Apache-2.0
"""
A command that runs in a guest of `scripts/guest-image bench`, or on the host, and what it costs.

The job is a shell script, /job in the guest's initramfs. /init there (scripts/guest/bench-init) runs
it with $disk1, $disk2 …, $FIO, $SYSBENCH and enter_files; adapters/host.py runs the same script on
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
from lib.part import BOOT_TIMEOUT_S
from lib.paths import GUEST

HOST = "host"
MAKER = "`scripts/guest-image bench` makes the guests"
PROGRAMS = os.path.join(GUEST, "bench")
# What a command may need beyond the time that it was given.
PATIENCE_S = 120
# Initramfs archives may follow each other where these are aligned so.
ALIGN = 512
CPIO_END = "TRAILER!!!"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the command printed, and what its time took of the host."""
    output: str
    seconds: float
    cost: cost.Cost
    helpers_s: float = 0  # CPU time of processes that work for the VMM


def script(command, before=":"):
    """The job that runs `command`, a line of shell, after the line `before`, not measured."""
    return (f"{before}\n"
            'echo "bench: begin"\n'
            f"{{ {command}; }} </dev/null >/tmp/output.$$ 2>&1\n"
            'echo "bench: end $?"\n'
            "cat /tmp/output.$$\n"
            "rm /tmp/output.$$\n"
            'echo "bench: done"\n')


def guest(part, **changes):
    """The part's guest, which runs what prepare() gives it."""
    base = part.guest(initrd=os.path.join(part.kept, "job.initrd"), **changes)
    options = {"programs": PROGRAMS, "job": os.path.join(part.kept, "job.sh"), "cache": "none",
               "aio": "io_uring", "iothread": True}
    return dataclasses.replace(base, options={**base.options, **options})


def prepare(part, attempt, text):
    """
    Give the attempt its job: as a file for the host, in the initramfs for a guest, and in the
    folder whose files the results keep.
    """
    for path in (attempt.guest.options["job"], os.path.join(attempt.scratch, "job")):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    with open(part.args.initrd, "rb") as f:
        archive = f.read()
    with open(attempt.guest.initrd, "wb") as f:
        f.write(padded(archive, ALIGN) + cpio_file("job", text.encode()) + cpio_file(CPIO_END, b""))


def padded(data, align):
    return data + bytes(-len(data) % align)


def cpio_file(name, data):
    """A regular file in an archive of cpio's format newc (initramfs buffer format)."""
    inode, mode, links = 0, 0o100644, 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return padded(header + name.encode() + b"\0", 4) + padded(data, 4)


def run(attempt, seconds, helpers_s=lambda: 0):
    """
    Run the attempt's job, which is to take `seconds`. RuntimeError if it fails. `helpers_s` tells the
    CPU time so far of processes that work for the VMM.
    """
    with attempt.start() as process:
        start = process.wait_for(b"bench: begin", BOOT_TIMEOUT_S)
        before, helped_before = cost.read(process.process.pid), helpers_s()
        ended = process.wait_for(b"bench: end ", start + seconds + PATIENCE_S)
        after, helped = cost.read(process.process.pid), helpers_s()
        process.wait_for(b"bench: done", ended + PATIENCE_S)
        if attempt.side.ends_by == "poweroff":
            process.wait_end(process.elapsed() + PATIENCE_S)
        text = process.output.decode(errors="replace").replace("\r", "")
    status, output = re.search(r"^bench: end (\d+)\n(.*?)^bench: done", text, re.M | re.S).groups()
    if status != "0":
        raise RuntimeError(f"the command failed with status {status}: {output[-600:]}")
    return Outcome(output, ended - start, after - before, helped - helped_before)
