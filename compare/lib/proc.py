# SPDX-License-Identifier: Apache-2.0
"""What /proc says about a VMM: its memory as `pmap -x` prints it, its threads, their wake-ups."""

import os
import re

MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)")
FIELDS = ("Size", "Rss", "Pss", "Shared_Dirty", "Private_Dirty")
# vCPUs, and a thread that KVM itself starts in every process that uses it.
NOT_VMM_THREAD = re.compile(r"vcpu|CPU \d+/KVM|kvm-nx-lpage|kvm-pit")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Mapping:
    """A piece of address space; sizes in KiB, by their names in smaps."""

    def __init__(self, start, end, name):
        self.start, self.end, self.name = start, end, name
        self.kib = {}
        self.flags = []

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


def are_one(one, other, is_in_ram):
    """
    Two mappings side by side are parts of one RAM: a file that lies in it, or memory that is left
    out of core dumps. Advice to use huge pages for a part of it makes mappings of its own.
    """
    return one.end == other.start and (is_in_ram(one.name) or is_in_ram(other.name) or
                                       ("dd" in one.flags and "dd" in other.flags))


def join_ram(mappings, is_in_ram):
    """Make one of mappings that are parts of the guest's RAM."""
    result = mappings[:1]
    for one, other in zip(mappings, mappings[1:]):
        if are_one(one, other, is_in_ram):
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
    kernel and an initrd that are mapped into the RAM are part of it.
    """
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
        found = parse_smaps(f)
    initrd = os.path.realpath(guest.initrd)
    mappings = join_ram(found, lambda name: name.endswith(".kernel") or name == initrd)
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


def threads(pid):
    """{thread: (name, voluntary context switches so far)}"""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii", errors="replace") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        found[tid] = status["Name"], int(status["voluntary_ctxt_switches"])
    return found


def wakeups(pid):
    """Voluntary context switches so far of the VMM's own threads, and of all."""
    counted = threads(pid).values()
    own = sum(switches for name, switches in counted if not NOT_VMM_THREAD.search(name))
    return own, sum(switches for _, switches in counted)


def cpu_s(pid):
    """Processor time so far, the guest's too."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
