# SPDX-License-Identifier: Apache-2.0
"""QEMU's microvm machine, as lean as its manual makes it. Options: see _qemu.py."""

from adapters import _qemu

NAME = "qemu-microvm"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"


version_argv = _qemu.version_argv


def argv(program, guest, _scratch):
    # QEMU 7.2 cannot set the host's arch-capabilities MSR under every KVM; guests do without it.
    command = [program, "-M", "microvm,pic=off,pit=off,rtc=off", "-accel", "kvm",
               "-cpu", "host,-arch-capabilities", "-m", str(guest.memory_mib),
               "-smp", str(guest.cpus),
               "-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot",
               "-kernel", guest.kernel, "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    return command + _qemu.disks_argv(guest, "virtio-blk-device")
