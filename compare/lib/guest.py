# SPDX-License-Identifier: Apache-2.0
"""What is started under every VMM: the guest and its disks."""

import dataclasses
import os
import re
import shutil
import subprocess

# The first line that user space prints in the busybox guests (scripts/guest/init).
MARKER = b"minivmm-guest: userspace"
# The last that a guest's kernel prints before it powers off or restarts. VMMs may have more to say.
LAST_LINE = re.compile(rb"reboot: [^\r\n]*\r*\n?")
CMDLINE = "console=ttyS0 quiet reboot=t panic=-1"


@dataclasses.dataclass(frozen=True)
class Disk:
    """
    An image. A fresh one is given to each run as a new overlay, or a copy where the format has none or
    `copy` says so, and may be written.
    """
    path: str
    format: str = "qcow2"
    readonly: bool = False
    role: str = "data"
    fresh: bool = True
    copy: bool = False


@dataclasses.dataclass(frozen=True)
class Guest:
    """`options` are for adapters that know them, by name: kernel_cache, kaslr …"""
    kernel: str
    initrd: str = ""
    memory_mib: int = 256
    cpus: int = 1
    cmdline: str = CMDLINE
    disks: tuple = ()
    options: dict = dataclasses.field(default_factory=dict)

    def with_words(self, words):
        """The same guest with more words on its command line."""
        return dataclasses.replace(self, cmdline=f"{self.cmdline} {words}".strip())


def qemu_img(*args):
    result = subprocess.run(["qemu-img", *args], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"qemu-img {args[0]}: {result.stderr.strip()}")


def raw_copy(disk, folder):
    """A raw image with the contents of `disk`, converted once per folder."""
    path = os.path.join(folder, os.path.basename(disk.path) + ".raw")
    if not os.path.exists(path):
        qemu_img("convert", "-f", disk.format, "-O", "raw", disk.path, path + ".new")
        os.rename(path + ".new", path)
    return path


def prepare_disk(disk, formats, folder, number, kept):
    """
    The disk that a run uses: an overlay or copy in `folder`, in a format of `formats`. What can be
    used by later runs too is kept in the folder `kept`.
    """
    path, image_format = os.path.abspath(disk.path), disk.format
    if image_format not in formats:
        path, image_format = raw_copy(disk, kept), "raw"
    if disk.fresh and not disk.readonly:
        own = os.path.join(folder, f"disk{number}.{image_format}")
        if image_format == "qcow2" and not disk.copy:
            qemu_img("create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", own)
        else:
            subprocess.run(["cp", "--reflink=auto", "--sparse=always", path, own], check=True)
        path = own
    return dataclasses.replace(disk, path=path, format=image_format)


def prepare_disks(guest, formats, folder, kept):
    disks = tuple(prepare_disk(disk, formats, folder, number, kept)
                  for number, disk in enumerate(guest.disks))
    return dataclasses.replace(guest, disks=disks)


def empty_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
