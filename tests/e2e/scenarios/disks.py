# SPDX-License-Identifier: Apache-2.0
"""Disks: formats, chains, read-only, space, locks."""

import hashlib
import os

from lib.testing import scenario

MIB = 1 << 20
SET_UP_FAILED = 1


def pattern(seed, size):
    block = hashlib.sha512(str(seed).encode()).digest() * 64
    return b"".join((i.to_bytes(8, "little") + block[8:]) for i in range(size // len(block)))


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return data


def read(path):
    with open(path, "rb") as f:
        return f.read()


def power_off(t, vm):
    vm.send("poweroff -f\n")
    t.equal(vm.wait(), 0, "exit status")


@scenario(seconds=20)
def disks_of_all_formats_side_by_side(t):
    """vda: qcow2 over a raw backing file; vdb: raw; vdc: read-only, and stays as it was."""
    base = write(t.path("base.img"), pattern("base", 4 * MIB))
    raw = write(t.path("b.img"), pattern("b", 2 * MIB))
    fixed = write(t.path("c.img"), pattern("c", 1 * MIB))
    t.qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "base.img", t.path("a.qcow2"), "8M")
    with t.busybox("--disk", t.path("a.qcow2"), "--disk", t.path("b.img") + ",format=raw",
                   "--disk", t.path("c.img") + ",format=raw,readonly=on,serial=FIXED1",
                   do="shell") as vm:
        vm.expect("disks vda vdb vdc")
        vm.shell()

        def digest(disk):
            return vm.sh(f"sha256sum /dev/{disk}")[1].split()[0]
        t.equal(digest("vda"), hashlib.sha256(base + bytes(4 * MIB)).hexdigest(), "vda as read")
        t.equal(digest("vdb"), hashlib.sha256(raw).hexdigest(), "vdb as read")
        t.equal(digest("vdc"), hashlib.sha256(fixed).hexdigest(), "vdc as read")

        copy = "dd if=/dev/vdc of=/dev/{} bs=3k count=20 seek={} conv=fsync"
        t.equal(vm.sh(copy.format("vda", 101))[0], 0, "write to vda")
        t.equal(vm.sh(copy.format("vda", 2000))[0], 0, "write to vda past the backing file")
        t.equal(vm.sh(copy.format("vdb", 7))[0], 0, "write to vdb")
        t.equal(vm.sh("blockdev --getro /dev/vdc")[1].strip(), "1", "blockdev --getro of vdc")
        t.check(vm.sh("dd if=/dev/zero of=/dev/vdc count=1 conv=fsync")[0] != 0,
                "the guest wrote to a read-only disk")
        t.equal(vm.sh("cat /sys/block/vdc/serial")[1].strip(), "FIXED1", "serial of vdc")
        power_off(t, vm)

    def patched(data, *seeks):
        data = bytearray(data)
        for seek in seeks:
            data[seek * 3072:(seek + 20) * 3072] = fixed[:20 * 3072]
        return data
    t.check_qcow2("a.qcow2")
    t.check(read(t.to_raw("a.qcow2")) == patched(base + bytes(4 * MIB), 101, 2000),
            "vda differs from what the guest wrote")
    t.check(read(t.path("base.img")) == base, "the backing file was changed")
    t.check(read(t.path("b.img")) == patched(raw, 7), "vdb differs from what the guest wrote")
    t.check(read(t.path("c.img")) == fixed, "the read-only disk was changed")


@scenario(seconds=15)
def discard_gives_space_back(t):
    """What the guest discards is freed in the image, and reads as zero."""
    t.qemu_img("create", "-f", "qcow2", t.path("a.qcow2"), "64M")

    def used():
        return os.stat(t.path("a.qcow2")).st_blocks * 512
    with t.busybox("--disk", t.path("a.qcow2") + ",discard=on", do="shell") as vm:
        vm.shell()
        fill = "tr '\\0' x </dev/zero | dd of=/dev/vda bs=1M count=8 iflag=fullblock conv=fsync"
        t.equal(vm.sh(fill)[0], 0, "fill")
        full = used()
        t.check(full >= 8 * MIB, f"8 MiB written, the image uses {full} bytes")
        status, text = vm.sh("blkdiscard -o 1048576 -l 6291456 /dev/vda && sync")
        t.equal(status, 0, f"blkdiscard ({text.strip()})")
        t.equal(vm.sh("dd if=/dev/vda bs=1M skip=1 count=6 2>/dev/null | tr -d '\\0' | wc -c")[1]
                .strip(), "0", "bytes that are not zero after the discard")
        power_off(t, vm)
    t.check(used() <= full - 5 * MIB,
            f"6 of 8 MiB discarded, the image went from {full} to {used()} bytes")
    t.check_qcow2("a.qcow2")


@scenario(seconds=15)
def image_in_use_is_refused(t):
    """A second minivmm on the same image ends at once with one line that names it."""
    t.qemu_img("create", "-f", "qcow2", t.path("a.qcow2"), "16M")
    with t.busybox("--disk", t.path("a.qcow2"), do="shell") as vm:
        vm.shell()
        with t.busybox("--disk", t.path("a.qcow2"), console="null") as second:
            t.equal(second.wait(), SET_UP_FAILED, "exit status of the second")
            lines = second.stderr().strip().split("\n")
            t.check(len(lines) == 1 and "a.qcow2" in lines[0] and "in use" in lines[0],
                    f"expected one line that says it is in use, got {lines}")
        t.equal(vm.sh("head -c 512 /dev/vda | wc -c")[1].strip(), "512", "the first VM's disk")
        power_off(t, vm)


@scenario(seconds=15)
def probed_raw_disk_cannot_become_a_qcow2(t):
    """A disk that was probed as raw refuses a qcow2 header in its first sector, and only that."""
    secret = write(t.path("secret"), b"host file\n" * 1000)
    write(t.path("a.img"), bytes(2 * MIB))
    t.qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", t.path("secret"), t.path("trap.qcow2"))
    with t.busybox("--disk", t.path("a.img"), "--disk", t.path("trap.qcow2") + ",format=raw",
                   do="shell") as vm:
        vm.expect("disks vda vdb")
        vm.shell()
        status, _ = vm.sh("dd if=/dev/vdb of=/dev/vda bs=512 count=1 conv=fsync")
        t.check(status != 0, "the guest wrote a qcow2 header to a probed raw disk")
        t.equal(vm.sh("echo plain | dd of=/dev/vda conv=fsync")[0], 0, "another write to sector 0")
        power_off(t, vm)
    t.check(not read(t.path("a.img")).startswith(b"QFI\xfb"), "the disk is a qcow2 image now")
    t.equal(read(t.path("secret")), secret, "the host's file")


@scenario(seconds=30)
def every_cache_and_aio_mode_keeps_data(t):
    """Four disks with different cache= and aio= are written at the same time."""
    modes = ["cache=none,aio=io_uring", "cache=none,aio=threads", "cache=writeback,aio=threads",
             "cache=unsafe,aio=io_uring,queues=2"]
    names = [f"{i}.qcow2" for i in range(len(modes))]
    args = []
    for name, mode in zip(names, modes):
        t.qemu_img("create", "-f", "qcow2", t.path(name), "32M")
        args += ["--disk", t.path(name) + "," + mode]
    with t.busybox(*args, "--cpus", "2", do="shell") as vm:
        vm.expect("disks vda vdb vdc vdd")
        vm.shell()
        one = "seq {0}00000 {0}99999 | dd of=/dev/vd{1} bs=4k seek=3 conv=fsync"
        commands = "; ".join(f"{one.format(i + 1, disk)} 2>/dev/null &"
                             for i, disk in enumerate("abcd")).replace("&;", "&")
        t.equal(vm.sh(f"{commands} wait")[0], 0, "writes")
        power_off(t, vm)
    for i, name in enumerate(names):
        expected = "".join(f"{n}\n" for n in range((i + 1) * 100000, (i + 2) * 100000)).encode()
        t.check_qcow2(name)
        data = read(t.to_raw(name))
        t.check(data == (bytes(12288) + expected).ljust(32 * MIB, b"\0"),
                f"{modes[i]}: the image differs from what the guest wrote")
