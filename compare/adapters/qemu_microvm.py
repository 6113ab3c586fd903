# SPDX-License-Identifier: Apache-2.0
"""QEMU's microvm machine, as lean as its manual makes it. Options: see _qemu.py."""

from adapters import _qemu

NAME = "qemu-microvm"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"
NETWORKS = ("tap", "user")


def argv(program, guest, _scratch):
    return _qemu.machine_argv(program, guest, "microvm,pic=off,pit=off,rtc=off", _qemu.KVM,
                              "virtio-blk-device") + _qemu.network_argv(guest, "virtio-net-device")
