# SPDX-License-Identifier: Apache-2.0
"""What /proc says about a VMM: its memory as `pmap -x` prints it, its threads, their wake-ups."""

import dataclasses
import os
import re

MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)")
FIELDS = ("Size", "Rss", "Pss", "Shared_Dirty", "Private_Dirty")
# Threads that KVM itself starts in every process that uses it.
OF_KVM = re.compile(r"kvm-nx-lpage|kvm-pit")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name, which may contain spaces.
UTIME, STIME, GUEST_TIME = 11, 12, 40


class Mapping:
    """A piece of address space; sizes in KiB, by their names in smaps."""

    def __init__(self, start, end, name):
        self.start, self.end, self.name = start, end, name
        self.kib = {}
        self.flags = []

    @property
    def is_kernel(self):
        """A file of minivmm's kernel cache."""
        return self.name.endswith(".kernel")

    def take(self, other):
        self.end = other.end
        for field, kib in other.kib.items():
            self.kib[field] += kib


def parse_smaps(lines):
    found = []
    for line in lines:
        header = MAPPING.match(line)
        if header:
            found.append(Mapping(int(header[1], 16), int(header[2], 16), header[4]))
            continue
        field, _, rest = line.partition(":")
        if field in FIELDS:
            found[-1].kib[field] = int(rest.split()[0])
        elif field == "VmFlags":
            found[-1].flags = rest.split()
    return found


def are_one(one, other):
    """
    Two mappings side by side are parts of one RAM: an unpacked kernel that lies in it, or memory
    that is left out of core dumps. Advice to use huge pages for a part of it makes mappings of its
    own.
    """
    return one.end == other.start and (one.is_kernel or other.is_kernel or
                                       ("dd" in one.flags and "dd" in other.flags))


def join_ram(mappings):
    """Make one of mappings that are parts of the guest's RAM."""
    result = mappings[:1]
    for one, other in zip(mappings, mappings[1:]):
        if are_one(one, other):
            result[-1].take(other)
        else:
            result.append(other)
    return result


def ram(mappings, ram_kib):
    """The guest's RAM: the largest mappings, as many as it takes."""
    found, total = [], 0
    for mapping in sorted(mappings, key=lambda m: -m.kib["Size"]):
        if total >= ram_kib:
            break
        found.append(mapping)
        total += mapping.kib["Size"]
    if total < ram_kib:
        raise RuntimeError(f"less than {ram_kib} KiB are mapped: where is the guest's RAM?")
    return found


def memory(pid, guest):
    """
    KiB of a VMM: all mappings as pmap -x prints them, and those beyond the guest's RAM. An unpacked
    kernel that is mapped into the RAM is part of it.
    """
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
        found = parse_smaps(f)
    mappings = join_ram(found)
    in_ram = ram(mappings, guest.memory_mib << 10)

    def total(field, some):
        return sum(mapping.kib[field] for mapping in some)

    beyond = [mapping for mapping in mappings if mapping not in in_ram]
    values = {"pss_kib": total("Pss", mappings)}
    for suffix, some in (("", mappings), ("_beyond", beyond)):
        values[f"mapped{suffix}_kib"] = total("Size", some)
        values[f"rss{suffix}_kib"] = total("Rss", some)
        values[f"dirty{suffix}_kib"] = total("Shared_Dirty", some) + total("Private_Dirty", some)
        values[f"private_dirty{suffix}_kib"] = total("Private_Dirty", some)
    return values


@dataclasses.dataclass(frozen=True)
class Thread:
    """Voluntary context switches and processor time so far, which includes that of guest code."""
    name: str
    switches: int
    cpu_s: float
    guest_s: float

    @property
    def is_vcpu(self):
        """It has run guest code. Names say nothing: not every VMM gives its threads any."""
        return self.guest_s > 0

    @property
    def is_own(self):
        """Of the VMM itself."""
        return not self.is_vcpu and not OF_KVM.search(self.name)


def cpu_times(path):
    """Seconds of all code and of guest code, by a file `stat`; the first includes the second."""
    with open(path, encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return ((int(fields[UTIME]) + int(fields[STIME])) / TICKS_PER_S,
            int(fields[GUEST_TIME]) / TICKS_PER_S)


def read_thread(folder):
    with open(f"{folder}/status", encoding="ascii", errors="replace") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return Thread(status["Name"], int(status["voluntary_ctxt_switches"]),
                  *cpu_times(f"{folder}/stat"))


def threads(pid):
    """{thread: Thread}"""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            found[tid] = read_thread(f"/proc/{pid}/task/{tid}")
        except (FileNotFoundError, ProcessLookupError):
            pass  # ended meanwhile
    return found


def wakeups(before, after):
    """Voluntary context switches between two of threads(): of the VMM's own, and of all."""
    counts = {tid: thread.switches - (before[tid].switches if tid in before else 0)
              for tid, thread in after.items()}
    return sum(counts[tid] for tid in after if after[tid].is_own), sum(counts.values())


def cpu_s(pid):
    """Processor time so far, the guest's too."""
    return cpu_times(f"/proc/{pid}/stat")[0]
