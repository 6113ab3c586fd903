# SPDX-License-Identifier: Apache-2.0
"""What the adapters of QEMU share.

Options: cache and aio (of all disks, as -drive has them), iothread (True: the disks share one),
network ("tap" or "user"), tap (its name), passt (the socket of one, for "user")
"""

# QEMU 7.2 cannot set the host's arch-capabilities MSR under every KVM; guests do without it.
KVM = ("-accel", "kvm", "-cpu", "host,-arch-capabilities")


def disks_argv(guest, device):
    """The disks, each a `device`."""
    keys = "".join(f",{key}={guest.options[key]}" for key in ("cache", "aio")
                   if key in guest.options)
    thread = ",iothread=io" if guest.options.get("iothread") else ""
    command = ["-object", "iothread,id=io"] if thread else []
    for number, disk in enumerate(guest.disks):
        readonly = "on" if disk.readonly else "off"
        command += ["-drive", f"file={disk.path},format={disk.format},if=none,id=disk{number},"
                              f"readonly={readonly}{keys}",
                    "-device", f"{device},drive=disk{number}{thread}"]
    return command


def network_argv(guest, device):
    """The network card, a `device`."""
    network = guest.options.get("network")
    if not network:
        return []
    backend = f"tap,id=net,ifname={guest.options['tap']},script=no,downscript=no,vhost=off" \
        if network == "tap" else \
        f"stream,id=net,server=off,addr.type=unix,addr.path={guest.options['passt']}"
    return ["-netdev", backend, "-device", f"{device},netdev=net"]


def machine_argv(program, guest, machine, accelerator, disk_device):
    """A machine with what the guest needs and nothing else; power-off and reboot end it."""
    command = [program, "-M", machine, *accelerator, "-m", str(guest.memory_mib),
               "-smp", str(guest.cpus), "-nodefaults", "-no-user-config", "-nographic",
               "-serial", "stdio", "-no-reboot", "-kernel", guest.kernel,
               "-append", guest.cmdline]
    if guest.initrd:
        command += ["-initrd", guest.initrd]
    return command + disks_argv(guest, disk_device)
