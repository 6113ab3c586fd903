# SPDX-License-Identifier: Apache-2.0
"""
StratoVirt's microvm machine. It has no ACPI: it describes its CPUs by an MP table and its disks on the
command line, which kernels like Debian's do not read; they find one CPU and no disk. It has no
power-off and no i8042: a reboot by a triple fault (reboot=t) ends it. The serial port goes to stdout;
nothing can be typed.

Options: cache ("none": direct I/O), aio ("io_uring")
"""

NAME = "stratovirt"
PROGRAM = "stratovirt"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = "reboot=t"
ENDS_BY = "reboot"
VERSION_ARGS = ("-version",)


def argv(program, guest, scratch):
    # It does not start without a control socket, and takes stdio only if that is a terminal.
    command = [program, "-machine", "microvm", "-qmp", f"unix:{scratch}/qmp,server,nowait",
               "-D", f"{scratch}/log", "-serial", "file,path=/proc/self/fd/1",
               "-m", f"{guest.memory_mib}M", "-smp", str(guest.cpus),
               "-kernel", guest.kernel, "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    keys = ",direct=on" if guest.options.get("cache") == "none" else ",direct=off"
    keys += f",aio={guest.options['aio']}" if "aio" in guest.options else ""
    for number, disk in enumerate(guest.disks):
        readonly = "on" if disk.readonly else "off"
        command += ["-drive", f"id=disk{number},file={disk.path},format={disk.format},"
                              f"readonly={readonly}{keys}",
                    "-device", f"virtio-blk-device,id=blk{number},drive=disk{number}"]
    return command
