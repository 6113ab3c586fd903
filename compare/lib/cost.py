# SPDX-License-Identifier: Apache-2.0
"""
What a process has cost its host so far: CPU time of the guest's code, of the VMM's vCPU threads and
of its other threads, and VM exits.

Exits come from KVM's counters in debugfs, which only root can read; without them, they are left
out.
"""

import dataclasses
import glob
import os
import subprocess

from lib import proc

DEBUGFS = "/sys/kernel/debug"
# Exits that the VMM itself has to handle: MMIO and port accesses that KVM passed on.
TO_USER_SPACE = ("mmio_exits", "io_exits")


@dataclasses.dataclass(frozen=True)
class Cost:
    """CPU in seconds; numbers of exits, None where nobody counts them."""
    guest_s: float
    vcpu_s: float  # of vCPU threads, the guest's code left out
    other_s: float
    exits: int = None
    user_exits: int = None

    def __sub__(self, other):
        return Cost(*(None if a is None or b is None else a - b for a, b in
                      zip(dataclasses.astuple(self), dataclasses.astuple(other))))

    @property
    def vmm_s(self):
        """All that is not the guest's own code."""
        return self.vcpu_s + self.other_s


def mount_debugfs():
    """Where it can be: the emulated host has none mounted."""
    if not os.path.isdir(f"{DEBUGFS}/kvm"):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", DEBUGFS], stderr=subprocess.DEVNULL,
                       check=False)


def counter(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="ascii") as f:
            return int(f.read())
    except OSError:
        return None


def exits(pid):
    """Exits of all vCPUs, and those of them that went to user space."""
    folders = glob.glob(f"{DEBUGFS}/kvm/{pid}-*")
    if not folders:
        return None, None
    to_user = [counter(folders[0], name) for name in TO_USER_SPACE]
    return counter(folders[0], "exits"), None if None in to_user else sum(to_user)


def read(pid):
    """The process's cost until now. Threads that have ended are among the others."""
    total_s, guest_s = proc.cpu_times(f"/proc/{pid}/stat")
    vcpu_s = sum(thread.cpu_s for thread in proc.threads(pid).values() if thread.is_vcpu)
    return Cost(guest_s, vcpu_s - guest_s, total_s - vcpu_s, *exits(pid))
