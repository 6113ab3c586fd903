# SPDX-License-Identifier: Apache-2.0
"""
What a process has cost its host so far: CPU time of the guest's code, of the VMM's vCPU threads and
of its other threads, and VM exits.

A vCPU thread is one that has run guest code, whatever its name. Exits come from KVM's counters in
debugfs, which only root can read; without them, they are left out.
"""

import dataclasses
import glob
import os
import subprocess

DEBUGFS = "/sys/kernel/debug"
# Exits that the VMM itself has to handle: MMIO and port accesses that KVM passed on.
TO_USER_SPACE = ("mmio_exits", "io_exits")
# Fields of /proc/PID/stat after the name, which may contain spaces.
UTIME, STIME, GUEST_TIME = 11, 12, 40


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


def cpu_times(path):
    """Seconds of all code and of guest code; the first includes the second."""
    with open(path, encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[UTIME]) + int(fields[STIME])) / ticks, int(fields[GUEST_TIME]) / ticks


def vcpu_times(pid):
    total_s = 0.0
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            thread_s, guest_s = cpu_times(f"/proc/{pid}/task/{tid}/stat")
        except FileNotFoundError:
            continue  # ended meanwhile: no vCPU
        if guest_s > 0:
            total_s += thread_s
    return total_s


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
    total_s, guest_s = cpu_times(f"/proc/{pid}/stat")
    vcpu_s = vcpu_times(pid)
    return Cost(guest_s, vcpu_s - guest_s, total_s - vcpu_s, *exits(pid))
