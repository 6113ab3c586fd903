# SPDX-License-Identifier: Apache-2.0
"""Kernels beyond the two cloud kernels. scripts/guest-image makes these on demand."""

from lib.testing import scenario

GUEST_OFF, GUEST_REBOOT = 0, 3


def finds_cpus_and_disk(t, kernel, end, status, *args):
    """Two CPUs are online, the disk can be read, and the command `end` ends with `status`."""
    with open(t.path("a.img"), "wb") as f:
        f.write(b"minivmm disk\n".ljust(1 << 20, b"\0"))
    with t.busybox("--cpus", "2", "--disk", t.path("a.img") + ",format=raw", "--on-reboot", "exit",
                   "--log", "info", *args, kernel=kernel, memory="256M", do="shell") as vm:
        vm.boot()
        vm.expect("cpus 2 .* disks vda")
        vm.shell()
        t.equal(vm.sh("head -n 1 /dev/vda")[1].strip(), "minivmm disk", "first line of the disk")
        vm.send(end + "\n")
        t.equal(vm.wait(), status, f"exit status after {end}")
        t.check("unpacks itself" not in vm.stderr(), vm.stderr())


def finds_everything(t, kernel):
    finds_cpus_and_disk(t, kernel, "poweroff -f", GUEST_OFF)
    finds_cpus_and_disk(t, kernel, "reboot -f", GUEST_REBOOT)


@scenario(seconds=25, guest=["flavours"])
def debian_12_generic_kernel_finds_everything(t):
    """linux-image-amd64 6.1, xz-packed."""
    finds_everything(t, "-12-generic")


@scenario(seconds=25, guest=["flavours"])
def debian_12_rt_kernel_finds_everything(t):
    """linux-image-rt-amd64 6.1."""
    finds_everything(t, "-12-rt")


@scenario(seconds=25, guest=["flavours"])
def debian_13_generic_kernel_finds_everything(t):
    """linux-image-amd64 6.12."""
    finds_everything(t, "-13-generic")


@scenario(seconds=25, guest=["flavours"])
def debian_13_rt_kernel_finds_everything(t):
    """linux-image-rt-amd64 6.12."""
    finds_everything(t, "-13-rt")


@scenario(guest=["no-acpi"])
def mp_table_and_command_line_replace_acpi(t):
    """--no-acpi: both CPUs by the MP table, the disk by virtio_mmio.device=, reboot."""
    finds_cpus_and_disk(t, "-no-acpi", "reboot -f", GUEST_REBOOT, "--no-acpi")


@scenario(guest=["flavours"])
def generic_kernel_finds_its_cpus_without_acpi(t):
    """--no-acpi: Debian's generic kernel knows MP tables, though not virtio_mmio.device=."""
    with t.busybox("--no-acpi", "--cpus", "2", "--on-reboot", "exit", kernel="-12-generic",
                   memory="256M", do="reboot") as vm:
        vm.boot()
        vm.expect("cpus 2 ")
        t.equal(vm.wait(), GUEST_REBOOT, "exit status")
