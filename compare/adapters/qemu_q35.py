# SPDX-License-Identifier: Apache-2.0
"""QEMU's PC with PCI Express, by KVM: what `-M q35` is when nothing is added to it."""

from adapters import _qemu

NAME = "qemu-q35"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"

version_argv = _qemu.version_argv


def argv(program, guest, _scratch):
    # QEMU 7.2 cannot set the host's arch-capabilities MSR under every KVM; guests do without it.
    return _qemu.pc_argv(program, guest, ["-accel", "kvm", "-cpu", "host,-arch-capabilities"])
