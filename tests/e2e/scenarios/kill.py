# SPDX-License-Identifier: Apache-2.0
"""SIGKILL in the middle of the guest's writes: what was synced is there, the image is sound."""

import random
import time

from lib import records
from lib.testing import scenario

ROUNDS = 5
# How long writing goes on after the first batch is durable.
WRITING_S = (0.0, 2.5)


def kill_rounds(t, image, expected, disk_options):
    """Boot, write, kill, check, on the same image again and again."""
    generator = random.Random(t.seed)
    print_seed = f"seed {t.seed}"
    start = 0
    for number in range(ROUNDS):
        seed = generator.randrange(1 << 32)
        mode = generator.choice(["buffered", "direct"])
        with t.busybox("--disk", t.path(image) + disk_options, do="write", console="null",
                       append=f"minivmm.seed={seed} minivmm.start={start} minivmm.mode={mode}") as vm:
            vm.boot()
            vm.expect(r"synced \d+\s")
            until = time.monotonic() + generator.uniform(*WRITING_S)
            while time.monotonic() < until:
                vm.read_some(max(until - time.monotonic(), 0))
            vm.kill()
            synced = int(records.SYNCED.findall(vm.output)[-1])
        where = f"round {number}, {mode}, {print_seed}"
        try:
            t.check_qcow2(image, leaks_allowed=True)
        except Exception as error:
            t.fail(f"{where}: {error}")
        expected.wrote(seed, start, synced)
        wrong = expected.compare(t.to_raw(image))
        t.check(not wrong, f"{where}: {wrong}")
        start = synced + records.IN_FLIGHT


@scenario(seconds=45)
def killed_while_writing_keeps_what_was_synced(t):
    """Plain qcow2, the default cache."""
    t.qemu_img("create", "-f", "qcow2", t.path("a.qcow2"), str(records.DISK_BYTES))
    kill_rounds(t, "a.qcow2", records.Expected(), "")


@scenario(seconds=45)
def killed_while_copying_on_write_keeps_what_was_synced(t):
    """qcow2 over a raw backing file, past host caching: partial clusters are copied up."""
    expected = records.Expected(backing_bytes=records.DISK_BYTES * 2 // 3)
    with open(t.path("base.img"), "wb") as f:
        f.write(expected.backing())
    t.qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "base.img", t.path("a.qcow2"),
               str(records.DISK_BYTES))
    kill_rounds(t, "a.qcow2", expected, ",cache=none,discard=on")
