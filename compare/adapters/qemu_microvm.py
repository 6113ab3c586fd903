# SPDX-License-Identifier: Apache-2.0
"""QEMU's microvm machine, as lean as its manual makes it.

Options: cache and aio (of all disks, as -drive has them), iothread (True: the disks share one)
"""

NAME = "qemu-microvm"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"


def version_argv(program):
    return [program, "--version"]


def argv(program, guest, _scratch):
    # QEMU 7.2 cannot set the host's arch-capabilities MSR under every KVM; guests do without it.
    command = [program, "-M", "microvm,pic=off,pit=off,rtc=off", "-accel", "kvm",
               "-cpu", "host,-arch-capabilities", "-m", str(guest.memory_mib),
               "-smp", str(guest.cpus),
               "-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio", "-no-reboot",
               "-kernel", guest.kernel, "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    keys = "".join(f",{key}={guest.options[key]}" for key in ("cache", "aio")
                   if key in guest.options)
    thread = ",iothread=io" if guest.options.get("iothread") else ""
    if thread:
        command += ["-object", "iothread,id=io"]
    for number, disk in enumerate(guest.disks):
        more = keys + (",readonly=on" if disk.readonly else "")
        command += ["-drive",
                    f"file={disk.path},format={disk.format},if=none,id=disk{number}{more}",
                    "-device", f"virtio-blk-device,drive=disk{number}{thread}"]
    return command
