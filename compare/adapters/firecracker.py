# SPDX-License-Identifier: Apache-2.0
"""
Firecracker, started from a file instead of by its API. It adds pci=off and how to find the disks to
the command line. It has no power-off: a reboot by the i8042 (reboot=k) ends it. Its disks go through the host's page cache, always.

Options: aio ("io_uring"), network ("tap" or "vsock"), tap (its name) and vsock (a path for its
socket)
"""

import json
import os

NAME = "firecracker"
PROGRAM = "firecracker"
TRIED = True
DISK_FORMATS = ("raw",)
CMDLINE = "reboot=k"
ENDS_BY = "reboot"
NETWORKS = ("tap", "vsock")


def drive(number, disk, options):
    engine = "Async" if options.get("aio") == "io_uring" else "Sync"
    return {"drive_id": f"disk{number}", "path_on_host": disk.path, "is_root_device": False,
            "is_read_only": disk.readonly, "cache_type": "Writeback",
            "io_engine": engine}


def argv(program, guest, scratch):
    source = {"kernel_image_path": guest.kernel, "boot_args": guest.cmdline}
    if guest.initrd:
        source["initrd_path"] = guest.initrd
    config = {"boot-source": source,
              "machine-config": {"vcpu_count": guest.cpus, "mem_size_mib": guest.memory_mib},
              "drives": [drive(number, disk, guest.options) for number, disk in enumerate(guest.disks)]}
    if guest.options.get("network") == "vsock":
        config["vsock"] = {"guest_cid": 3, "uds_path": guest.options["vsock"]}
    elif guest.options.get("network"):
        config["network-interfaces"] = [{"iface_id": "eth0",
                                         "host_dev_name": guest.options["tap"]}]
    path = os.path.join(scratch, "firecracker.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    log = os.path.join(scratch, "firecracker.log")
    with open(log, "wb"):
        pass  # it has to be there; otherwise lines of the log are in between what the guest prints
    return [program, "--no-api", "--config-file", path, "--log-path", log]
