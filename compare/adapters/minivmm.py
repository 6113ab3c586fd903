# SPDX-License-Identifier: Apache-2.0
"""minivmm, the release build of this tree.

Options: kernel_cache (a folder or "off"), kaslr ("on", "off"), boot_trace (a name for the file in
the folder of the run), cache and aio (of all disks, as in --disk), disk (more keys of --disk, as
text), network ("tap", "user" or "vsock"), tap (its name), vhost (True: the kernel works on it) and
vsock (a path for its socket), rtc ("on", "off"), more_devices (True: a network card, random bytes,
vsock and a balloon)
"""

import os

from lib.paths import MINIVMM

NAME = "minivmm"
PROGRAM = MINIVMM
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"
NETWORKS = ("tap", "user", "vsock")


def argv(program, guest, scratch):
    command = [program, "--kernel", guest.kernel, "--memory", f"{guest.memory_mib}M",
               "--cpus", str(guest.cpus), "--cmdline", guest.cmdline]
    if guest.initrd:
        command += ["--initrd", guest.initrd]
    for disk in guest.disks:
        # Overlays are made in a folder of their own.
        keys = f"format={disk.format},backing=any" + (",readonly=on" if disk.readonly else "")
        keys += "".join(f",{key}={guest.options[key]}" for key in ("cache", "aio")
                        if key in guest.options)
        keys += f",{guest.options['disk']}" if "disk" in guest.options else ""
        command += ["--disk", f"{disk.path},{keys}"]
    network = guest.options.get("network")
    if network == "vsock":
        command += ["--vsock", f"path={guest.options['vsock']}"]
    elif network:
        vhost = ",vhost=on" if guest.options.get("vhost") else ""
        command += ["--net", f"tap={guest.options['tap']}{vhost}" if network == "tap" else network]
    if guest.options.get("more_devices"):
        command += ["--net", f"unix:{os.path.join(scratch, 'net')},server",
                    "--vsock", f"path={os.path.join(scratch, 'vsock')}", "--rng", "on",
                    "--balloon", "on"]
    for option in ("kernel_cache", "kaslr", "rtc"):
        if option in guest.options:
            command += ["--" + option.replace("_", "-"), guest.options[option]]
    if "boot_trace" in guest.options:
        command += ["--boot-trace", os.path.join(scratch, guest.options["boot_trace"])]
    return command
