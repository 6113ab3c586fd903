# SPDX-License-Identifier: Apache-2.0
"""Kernels, processors, memory, power."""

import hashlib
import os
import shutil
import signal
import time

from lib.testing import scenario

GUEST_OFF, GUEST_REBOOT, ENDED_BY_USER = 0, 3, 4
BOOT_S = 400


@scenario(seconds=80, guest=["debian"])
def debian_boots_writes_files_and_powers_off(t):
    """Debian to its login prompt; files it wrote are there for other tools."""
    t.tool("cp", t.guest_file("debian.qcow2"), t.path("root.qcow2"))
    t.tool("chmod", "u+w", t.path("root.qcow2"))
    with t.debian("--disk", t.path("root.qcow2"), "--cpus", "2", console="pty") as vm:
        vm.login()
        t.equal(vm.sh("nproc")[1].strip(), "2", "processors of the guest")
        t.equal(vm.sh("stat -c %T -f /")[1].strip(), "ext2/ext3", "file system of /")
        status, _ = vm.sh("dd if=/dev/urandom of=/root/blob bs=1M count=8 status=none")
        t.equal(status, 0, "dd in the guest")
        digest = vm.sh("sha256sum /root/blob")[1].split()[0]
        vm.sh("mkdir -p /root/many && for i in $(seq 100); do echo file $i >/root/many/$i; done")
        t.equal(vm.sh("sync")[0], 0, "sync in the guest")
        vm.send("poweroff\n")
        t.equal(vm.wait(BOOT_S), GUEST_OFF, "exit status after poweroff")

    t.check_qcow2("root.qcow2")
    raw = t.to_raw("root.qcow2")
    t.tool("e2fsck", "-fn", raw)
    t.tool("debugfs", "-R", f"dump /root/blob {t.path('blob')}", raw)
    with open(t.path("blob"), "rb") as blob:
        t.equal(hashlib.sha256(blob.read()).hexdigest(), digest, "checksum of /root/blob")
    for i in (1, 50, 100):
        t.equal(t.tool("debugfs", "-R", f"cat /root/many/{i}", raw), f"file {i}\n".encode(),
                f"/root/many/{i}")


@scenario(seconds=60, guest=["debian"])
def sigterm_presses_the_power_button(t):
    """SIGTERM shuts a Debian on an overlay down cleanly; its backing file stays as it was."""
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file("")) as vm:
        vm.login()
        # The prompt may come before the service that listens to the button.
        vm.sh("until systemctl -q is-active systemd-logind; do sleep 1; done")
        vm.signal(signal.SIGTERM)
        vm.expect("reboot: Power down", BOOT_S)
        t.equal(vm.wait(), GUEST_OFF, "exit status after the power button")
    t.check_qcow2("overlay.qcow2")
    t.tool("e2fsck", "-fn", t.to_raw("overlay.qcow2"))


@scenario()
def initramfs_only_guest_needs_no_disk(t):
    """A guest without a disk reaches user space, with the memory it was given, and powers off."""
    with t.busybox(memory="300M") as vm:
        vm.boot()
        kib = int(vm.expect(r"cpus 1 memory-kib (\d+) disks none").group(1))
        t.check(220 << 10 < kib <= 300 << 10, f"--memory 300M: the guest has {kib} KiB")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario()
def four_cpus_are_online(t):
    """--cpus 4: the guest's kernel brings all of them up."""
    with t.busybox("--cpus", "4") as vm:
        vm.boot()
        vm.expect("cpus 4 ")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario()
def memory_beyond_the_hole_is_seen(t):
    """--memory 5G: the guest has all of it, below and above the hole under 4 GiB."""
    with t.busybox(memory="5G") as vm:
        vm.boot()
        kib = int(vm.expect(r"memory-kib (\d+) ").group(1))
        t.check(48 << 20 < kib * 10 <= 50 << 20, f"--memory 5G: the guest has {kib} KiB")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario()
def reboot_exits_with_its_own_status(t):
    """--on-reboot exit: a guest's reboot ends minivmm with status 3."""
    with t.busybox("--on-reboot", "exit", do="reboot") as vm:
        vm.boot()
        t.equal(vm.wait(), GUEST_REBOOT, "exit status")


@scenario(seconds=20)
def reboot_restarts_in_the_same_process(t):
    """--on-reboot restart: the guest boots again, sees its disk again, in the same process."""
    t.qemu_img("create", "-f", "qcow2", t.path("a.qcow2"), "16M")
    with t.busybox("--on-reboot", "restart", "--disk", t.path("a.qcow2"), "--cpus", "2",
                   do="reboot", console="pty") as vm:
        for _ in range(3):
            vm.boot()
            vm.expect("cpus 2 .* disks vda")
        t.check(vm.process.poll() is None, "minivmm ended at a restart")
        vm.send("\x01x")
        t.equal(vm.wait(), ENDED_BY_USER, "exit status after Ctrl-A x")
    t.check_qcow2("a.qcow2")


@scenario()
def second_sigterm_ends_the_vm(t):
    """A guest that ignores the power button is ended by the second SIGTERM, with status 4."""
    with t.busybox(do="shell") as vm:
        vm.shell()
        vm.signal(signal.SIGTERM)
        t.equal(vm.sh("echo still here")[1].strip(), "still here", "the guest after one SIGTERM")
        time.sleep(1)  # signals that come together are one request
        vm.signal(signal.SIGTERM)
        t.equal(vm.wait(), ENDED_BY_USER, "exit status")


@scenario()
def kernel_boots_without_acpi(t):
    """--no-acpi: a guest without a disk reaches user space and reboots."""
    with t.busybox("--no-acpi", "--on-reboot", "exit", do="reboot") as vm:
        vm.boot()
        t.equal(vm.wait(), GUEST_REBOOT, "exit status")


@scenario(guest=["trixie"])
def debian_13_kernel_boots_with_a_disk(t):
    """A zstd-packed 6.12 kernel reaches user space on two CPUs and reads its disk."""
    with open(t.path("a.raw"), "wb") as f:
        f.write(b"minivmm disk\n".ljust(1 << 20, b"\0"))
    t.qemu_img("convert", "-f", "raw", "-O", "qcow2", t.path("a.raw"), t.path("a.qcow2"))
    with t.busybox("--disk", t.path("a.qcow2"), "--cpus", "2", kernel="-13", do="shell") as vm:
        vm.boot()
        vm.expect(r"kernel 6\.1[2-9]\.")
        vm.expect("cpus 2 .* disks vda")
        vm.shell()
        t.equal(vm.sh("head -n 1 /dev/vda")[1].strip(), "minivmm disk", "first line of the disk")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


def is_seeded_before_anything_else(t, kernel):
    """A kernel that trusts no processor says that its random numbers are ready, as one of its first."""
    with t.busybox(kernel=kernel, do="shell", append="random.trust_cpu=off") as vm:
        vm.boot()
        vm.shell()
        first = vm.sh("dmesg | grep ' Memory: \\|crng init done' | head -n 1 | tr -d '[]'")[1]
        t.check("random: crng init done" in first, f"what the kernel did first: {first!r}")
        generation = vm.sh("ls /sys/bus/*/drivers/vmgenid")[1]
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")
    return generation


@scenario()
def random_numbers_are_ready_from_the_start(t):
    """Debian 12's kernel gets a seed with its boot parameters: getrandom never waits."""
    is_seeded_before_anything_else(t, "")


@scenario(guest=["trixie"])
def debian_13_kernel_is_seeded_and_knows_its_generation(t):
    """Debian 13's kernel gets a seed too, and its driver finds the VM's generation."""
    generation = is_seeded_before_anything_else(t, "-13")
    t.check("MVMM0001" in generation, f"the driver has {generation!r}")


def kernel_addresses(t, kernel, *args):
    """_text of a guest's kernel, where its code is in physical memory, and its error messages."""
    with t.busybox(*args, kernel=kernel, do="shell", memory="256M") as vm:
        vm.boot()
        vm.shell()
        text = vm.sh("grep ' _text$' /proc/kallsyms")[1].split()[0]
        code = vm.sh("grep 'Kernel code' /proc/iomem")[1].split("-")[0].strip()
        errors = vm.sh("dmesg -r | grep '^<[0-3]>'")[1].strip()
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")
        t.check("unpacks itself" not in vm.stderr(), vm.stderr())
    return int(text, 16), int(code, 16), errors


def check_kaslr(t, kernel):
    """
    The first boot unpacks the kernel, the others have it from the cache. Chance lets a right program
    fail once in some thousand runs: there are 480 virtual and 80 physical places.
    """
    args = ["--log", "info", "--kernel-cache", t.path("cache")]
    found = [kernel_addresses(t, kernel, *args) for _ in range(3)]
    t.equal(len(os.listdir(t.path("cache"))), 1, "kernels in the cache")
    t.check(len({text for text, _, _ in found}) > 1, "_text is the same in three boots")
    t.check(len({code for _, code, _ in found}) > 1, "its physical address is the same")
    text, code, errors = kernel_addresses(t, kernel, *args, "--kaslr", "off")
    t.equal(text, 0xffffffff81000000, "_text with --kaslr off")
    t.equal(code, 16 << 20, "physical address with --kaslr off")
    for _, _, other in found:
        t.equal(other, errors, "error messages of a randomised kernel")
    shutil.rmtree(t.path("cache"))


@scenario(seconds=30)
def kernel_is_at_other_addresses_at_each_start(t):
    """Debian 12's kernel, LZ4-packed: unpacked by minivmm, randomised, or not."""
    check_kaslr(t, "")


@scenario(seconds=30, guest=["trixie"])
def zstd_packed_kernel_is_at_other_addresses_at_each_start(t):
    """Debian 13's kernel, zstd-packed: unpacked by minivmm, randomised, or not."""
    check_kaslr(t, "-13")


@scenario(seconds=20, guest=["busybox", "repacked"])
def gzip_and_xz_packed_kernels_boot(t):
    """Debian 12's kernel in other packings, prepared or not; the files have no stub to fall back to."""
    cache = ["--kernel-cache", t.path("cache")]
    t.tool(t.minivmm, "--prepare-kernel", t.guest_file("vmlinuz-gzip"), *cache)
    for packing, kept in (("gzip", 1), ("xz", 2)):
        t.equal(len(os.listdir(t.path("cache"))), 1, "kernels in the cache before")
        with t.vm("--kernel", t.guest_file("vmlinuz-" + packing),
                  "--initrd", t.guest_file("initramfs-busybox.cpio.gz"), "--memory", "192M",
                  "--append", "quiet minivmm.do=poweroff", *cache) as vm:
            vm.boot()
            t.equal(vm.wait(), GUEST_OFF, f"exit status with {packing}")
        t.equal(len(os.listdir(t.path("cache"))), kept, f"kernels in the cache after {packing}")
    shutil.rmtree(t.path("cache"))
