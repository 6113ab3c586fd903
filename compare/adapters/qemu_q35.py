# SPDX-License-Identifier: Apache-2.0
"""QEMU's PC with PCI Express, by KVM: what `-M q35` is when nothing is added to it."""

from adapters import _qemu

NAME = "qemu-q35"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"


def argv(program, guest, _scratch):
    return _qemu.machine_argv(program, guest, "q35", _qemu.KVM, "virtio-blk-pci")
