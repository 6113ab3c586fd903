# SPDX-License-Identifier: Apache-2.0
"""
Cloud Hypervisor, the serial port on its terminal. Power-off by ACPI ends it; a reboot does not.

Options: cache ("none": direct I/O)
"""

NAME = "cloud-hypervisor"
PROGRAM = "cloud-hypervisor"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"


def argv(program, guest, _scratch):
    command = [program, "--kernel", guest.kernel, "--cmdline", guest.cmdline,
               "--memory", f"size={guest.memory_mib}M", "--cpus", f"boot={guest.cpus}",
               "--serial", "tty", "--console", "off"]
    if guest.initrd:
        command += ["--initramfs", guest.initrd]
    if guest.disks:
        command.append("--disk")
    direct = "on" if guest.options.get("cache") == "none" else "off"
    for disk in guest.disks:
        readonly = "on" if disk.readonly else "off"
        command.append(f"path={disk.path},readonly={readonly},image_type={disk.format},"
                       f"direct={direct},backing_files=on")
    return command
