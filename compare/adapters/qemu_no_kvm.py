# SPDX-License-Identifier: Apache-2.0
"""QEMU's PC without KVM: the processor is emulated, as many threads as the guest has CPUs."""

from adapters import _qemu

NAME = "qemu-no-kvm"
PROGRAM = "qemu-system-x86_64"
TRIED = True
DISK_FORMATS = ("qcow2", "raw")
CMDLINE = ""
ENDS_BY = "poweroff"


def argv(program, guest, _scratch):
    # QEMU 7.2 gets CMPXCHG16B wrong, and Linux 6.12 uses it wherever it allocates memory.
    return _qemu.machine_argv(program, guest, "q35",
                              ("-accel", "tcg,thread=multi", "-cpu", "max,-cx16"),
                              "virtio-blk-pci")
