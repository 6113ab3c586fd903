# SPDX-License-Identifier: Apache-2.0
"""
kvmtool (lkvm). It puts words of its own before the guest's: noapic noacpi pci=conf1 reboot=k panic=1
and how to treat the i8042; without ACPI, a kernel that does not read MP tables, like those of Debian's
cloud flavour, finds only one CPU. Power-off halts the guest, so that only a reboot ends it.

Options: cache ("none": direct I/O)
"""

NAME = "kvmtool"
PROGRAM = "lkvm"
TRIED = True
# Of qcow2 it reads version 2 only, which qemu-img makes on request.
DISK_FORMATS = ("raw",)
CMDLINE = "reboot=k"
ENDS_BY = "reboot"
VERSION_ARGS = ("version",)


def argv(program, guest, _scratch):
    command = [program, "run", "--nodefaults", "--console", "serial", "--network", "mode=none",
               "--mem", f"{guest.memory_mib}M", "--cpus", str(guest.cpus),
               "--kernel", guest.kernel, "--params", guest.cmdline]
    if guest.initrd:
        command += ["--initrd", guest.initrd]
    direct = ",direct" if guest.options.get("cache") == "none" else ""
    for disk in guest.disks:
        command += ["--disk", disk.path + (",ro" if disk.readonly else "") + direct]
    return command
