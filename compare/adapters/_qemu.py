# SPDX-License-Identifier: Apache-2.0
"""What the adapters of QEMU's PC share."""


def version_argv(program):
    return [program, "--version"]


def pc_argv(program, guest, accelerator):
    """A q35 machine with what the guest needs and nothing else; power-off and reboot end it."""
    command = [program, "-M", "q35", *accelerator, "-m", str(guest.memory_mib),
               "-smp", str(guest.cpus), "-nodefaults", "-no-user-config", "-nographic",
               "-serial", "stdio", "-no-reboot", "-kernel", guest.kernel,
               "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    for number, disk in enumerate(guest.disks):
        readonly = "on" if disk.readonly else "off"
        command += ["-drive", f"file={disk.path},format={disk.format},if=none,id=disk{number},"
                              f"readonly={readonly}",
                    "-device", f"virtio-blk-pci,drive=disk{number}"]
    return command
