# SPDX-License-Identifier: Apache-2.0
"""Devices beyond disks and network cards."""

import time

from lib.connect import connect
from lib.testing import scenario

GUEST_OFF = 0


@scenario(seconds=12)
def guest_reads_random_bytes_of_the_host(t):
    """--rng on: the driver finds its device, bytes differ, and come no faster than the limit."""
    with t.busybox("--rng", "on,bps=64K", devices=True, do="shell") as vm:
        vm.boot()
        vm.shell()
        t.equal(vm.sh("modprobe virtio-rng")[0], 0, "modprobe")
        name = vm.sh("cat /sys/class/misc/hw_random/rng_current")[1].strip()
        t.check(name.startswith("virtio_rng"), f"rng_current is {name!r}")
        read = "dd if=/dev/hwrng bs=512 count=1 2>/dev/null | md5sum"
        sums = {vm.sh(read)[1].split()[0] for _ in range(3)}
        t.equal(len(sums), 3, "different pieces of three")
        begin = time.monotonic()
        status, _ = vm.sh("dd if=/dev/hwrng of=/dev/null bs=4096 count=64 iflag=fullblock")
        t.equal(status, 0, "dd in the guest")
        seconds = time.monotonic() - begin
        t.check(seconds > 3, f"256 KiB at 64 KiB/s took {seconds:.1f} s")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario(seconds=12, guest=["trixie"])
def console_is_a_terminal_that_follows_its_size(t):
    """--console stdio: a shell on hvc0, keys and Ctrl-A keys, the size of the terminal."""
    with t.busybox("--console", "stdio", kernel="-13", do="shell", console="pty") as vm:
        vm.resize(100, 40)
        vm.shell()
        t.equal(vm.sh("cat /sys/class/tty/console/active")[1].strip(), "ttyS0 hvc0", "consoles")
        t.equal(vm.sh("stty size")[1].strip(), "40 100", "the size at first")
        for columns, rows in ((132, 43), (80, 25)):
            vm.resize(columns, rows)
            vm.sh(f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done")
        vm.sh("stty cols 1000")
        lines = 2000
        text = vm.sh(f"seq {lines}")[1].split()
        t.equal(text, [str(i) for i in range(1, lines + 1)], "what was printed")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario(seconds=12)
def console_stands_beside_the_serial_port(t):
    """--console unix: of a kernel with a driver as a module: both ports work at once."""
    path = t.path("console")
    with t.busybox("--console", f"unix:{path}", devices=True, do="shell") as vm:
        vm.boot()
        vm.shell()
        t.equal(vm.sh("modprobe virtio_console")[0], 0, "modprobe")
        with connect(path) as client:
            vm.sh("echo greetings >/dev/hvc0")
            t.check(b"greetings" in receive_until(client, b"greetings"), "the client reads it")
            vm.send("head -n 1 /dev/hvc0; echo end\n")
            client.sendall(b"and back\n")
            vm.expect("and back")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


@scenario(seconds=12)
def clock_tells_the_time_of_the_host(t):
    """--rtc on: the driver of the CMOS clock finds one, which is right, and has no alarms."""
    with t.busybox("--rtc", "on", do="shell") as vm:
        vm.boot()
        vm.shell()
        told = int(vm.sh("cat /sys/class/rtc/rtc0/since_epoch")[1])
        t.check(abs(told - time.time()) < 60, f"the clock says {told}, the host {time.time():.0f}")
        begin = int(vm.sh("cat /sys/class/rtc/rtc0/since_epoch; sleep 3")[1])
        end = int(vm.sh("cat /sys/class/rtc/rtc0/since_epoch")[1])
        t.check(end - begin >= 3, f"three seconds are {end - begin} of the clock")
        t.equal(vm.sh("dmesg | grep -c 'rtc_cmos.*no alarms'")[1].strip(), "1", "without alarms")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")


def receive_until(client, text):
    data = b""
    while text not in data:
        piece = client.recv(4096)
        if not piece:
            break
        data += piece
    return data


@scenario(seconds=80, guest=["debian"])
def debian_logs_in_on_its_console(t):
    """--console stdio: Debian's login prompt is on hvc0, which is as large as the terminal."""
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""), "--console",
                  "stdio", "--append", "systemd.wants=serial-getty@hvc0.service",
                  console="pty") as vm:
        vm.resize(120, 50)
        vm.login()
        t.equal(vm.sh("tty")[1].strip(), "/dev/hvc0", "the terminal of the login")
        t.equal(vm.sh("stty size")[1].split(), ["50", "120"], "its size")
        vm.send("poweroff\n")
        t.equal(vm.wait(), GUEST_OFF, "exit status")
