# SPDX-License-Identifier: Apache-2.0
"""QEMU's microvm machine, as lean as its manual makes it."""


def version_argv():
    return ["qemu-system-x86_64", "--version"]


def argv(guest):
    # QEMU 7.2 cannot set the host's arch-capabilities MSR under every KVM; guests do without it.
    command = ["qemu-system-x86_64", "-M", "microvm,pic=off,pit=off,rtc=off", "-accel", "kvm",
               "-cpu", "host,-arch-capabilities", "-m", str(guest.memory_mib),
               "-smp", str(guest.cpus),
               "-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot",
               "-kernel", guest.kernel, "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    if guest.disk:
        command += ["-drive", f"file={guest.disk},format={guest.disk_format},if=none,id=disk",
                    "-device", "virtio-blk-device,drive=disk"]
    return command
