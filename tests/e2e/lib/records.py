# SPDX-License-Identifier: Apache-2.0
"""What tests/e2e/record-writer.c writes, computed here, and the comparison with an image.

A sector may hold any of the versions that a kill leaves possible: the last durable one, or any
newer one that was under way.
"""

import re
import struct

SECTOR = 512
SLOT_SECTORS = 48
SLOTS = 1024
SLOT_STEP = 389
BATCH = 16
DISK_BYTES = SLOTS * SLOT_SECTORS * SECTOR
# Records that may have been written after the last batch that we saw reported: the batch under
# way, and those whose report was still in a buffer of the VMM.
IN_FLIGHT = 8 * BATCH
SYNCED = re.compile(rb"synced (\d+)\r*\n")
MASK = (1 << 64) - 1
BACKING_RECORD = MASK - 1


def mix(x):
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & MASK
    return x ^ (x >> 31)


def place(seed, record):
    """First sector and number of sectors of a record."""
    value = mix((seed * 0x100000001b3 + record) & MASK)
    slot = (record * SLOT_STEP + seed) % SLOTS
    first = value % SLOT_SECTORS
    return slot * SLOT_SECTORS + first, 1 + (value >> 32) % (SLOT_SECTORS - first)


def content(record, sector):
    return struct.pack("<QQ", record + 1, sector) * (SECTOR // 16)


class Expected:
    def __init__(self, backing_bytes=0):
        self.backing_sectors = backing_bytes // SECTOR
        # sector -> the records that it may hold
        self.versions = {}

    def backing(self):
        return b"".join(content(BACKING_RECORD, s) for s in range(self.backing_sectors))

    def original(self, sector):
        return BACKING_RECORD if sector < self.backing_sectors else None

    def wrote(self, seed, start, synced):
        """A guest wrote from `start`; records below `synced` are durable."""
        for record in range(start, synced + IN_FLIGHT):
            first, count = place(seed, record)
            for sector in range(first, first + count):
                if record < synced:
                    self.versions[sector] = {record}
                else:
                    self.versions.setdefault(sector, {self.original(sector)}).add(record)

    def compare(self, raw):
        """Compare a raw image. Returns what is wrong, or None."""
        zeroes = bytes(SECTOR)
        with open(raw, "rb") as f:
            for sector in range(DISK_BYTES // SECTOR):
                data = f.read(SECTOR)
                versions = self.versions.get(sector) or (self.original(sector),)
                if not any(data == (zeroes if v is None else content(v, sector))
                           for v in versions):
                    return (f"sector {sector}: expected record {sorted(versions, key=str)}, got "
                            f"{self.describe(data)}")
        return None

    @staticmethod
    def describe(data):
        if not any(data):
            return "zeroes"
        record, sector = struct.unpack("<QQ", data[:16])
        return f"record {record - 1} of sector {sector}"
