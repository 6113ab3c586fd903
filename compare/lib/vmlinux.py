# SPDX-License-Identifier: Apache-2.0
"""The ELF kernel in a bzImage, for VMMs that take it: unpacked by the programs of its packing."""

import os
import struct
import subprocess

from lib import sides
from lib.paths import RESULTS

PACKINGS = ((b"\x02\x21\x4c\x18", ["lz4", "-dc"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
            (b"\x1f\x8b", ["gzip", "-dc"]), (b"\xfd7zXZ\0", ["xz", "-dc"]))
ELF = b"\x7fELF"


def payload(image):
    """The packed kernel, by the setup header of the boot protocol; without the size behind it."""
    if image[0x202:0x206] != b"HdrS":
        return b""
    sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    return image[start:start + length - 4]


class NoProgram(Exception):
    """What unpacks this kernel is missing."""


def unpack(kernel):
    """The path of the unpacked kernel, made once; "" for one that is packed in no known way."""
    path = os.path.join(RESULTS, f"vmlinux-{sides.file_hash(kernel)}")
    if os.path.exists(path):
        return path
    with open(kernel, "rb") as f:
        packed = payload(f.read())
    command = next((command for magic, command in PACKINGS if packed.startswith(magic)), None)
    if not command:
        return ""
    try:
        done = subprocess.run(command, input=packed, capture_output=True, check=False)
    except FileNotFoundError:
        raise NoProgram(f"{command[0]} is missing; `scripts/setup guest` installs it") from None
    if not done.stdout.startswith(ELF):
        return ""
    os.makedirs(RESULTS, exist_ok=True)
    with open(path + ".new", "wb") as f:
        f.write(done.stdout)
    os.rename(path + ".new", path)
    return path
