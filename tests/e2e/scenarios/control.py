# SPDX-License-Identifier: Apache-2.0
"""A VM that is paused, asked to power off, and that panics, through its control socket."""

import random
import time

from lib import records
from lib.qmp import Qmp
from lib.testing import scenario

GUEST_OFF, ENDED_BY_USER = 0, 4
PAUSES = 100
PAUSE_S = 20
BOOT_S = 400


def address(t):
    return "unix:" + t.path("qmp")


def check_kernel_noticed_nothing(t, vm):
    text = vm.sh("dmesg")[1]
    for trouble in ("soft lockup", "rcu: INFO", "hung_task", "clocksource: timekeeping watchdog",
                    "Marking clocksource"):
        t.check(trouble not in text, f"the guest's kernel complains after a pause: {trouble}")


@scenario(seconds=60)
def pauses_under_disk_load_lose_nothing(t):
    """A hundred pauses while the guest writes: what it synced is there, each pause is at rest."""
    generator = random.Random(t.seed)
    expected = records.Expected()
    t.qemu_img("create", "-f", "qcow2", t.path("a.qcow2"), str(records.DISK_BYTES))
    with t.busybox("--disk", t.path("a.qcow2"), "--qmp", address(t), do="write", console="null",
                   append="minivmm.seed=7 minivmm.start=0 minivmm.mode=direct") as vm:
        with Qmp(t.path("qmp")) as qmp:
            vm.boot()
            vm.expect(r"synced \d+\s")
            for _ in range(PAUSES):
                qmp.ask("stop")
                t.equal(qmp.ask("query-status")["status"], "paused", "state after stop")
                qmp.ask("cont")
                vm.read_some(generator.uniform(0, 0.05))
            vm.expect(r"synced \d+\s")
            qmp.ask("stop")
        vm.drain()
        vm.kill()
    synced = int(records.SYNCED.findall(vm.output)[-1])
    t.check_qcow2("a.qcow2", leaks_allowed=True)
    expected.wrote(7, 0, synced)
    wrong = expected.compare(t.to_raw("a.qcow2"))
    t.check(not wrong, f"after {PAUSES} pauses: {wrong}")


@scenario(seconds=40)
def time_stands_still_during_a_pause(t):
    """The guest's clocks, with two processors, go on from where they stood."""
    with t.busybox("--cpus", "2", "--qmp", address(t), do="shell") as vm:
        vm.shell()

        def uptime():
            return float(vm.sh("cat /proc/uptime")[1].split()[0])
        with Qmp(t.path("qmp")) as qmp:
            before = uptime()
            began = time.monotonic()
            qmp.ask("stop")
            time.sleep(PAUSE_S)
            qmp.ask("cont")
            after = uptime()
            real = time.monotonic() - began
            t.check(after - before < real - PAUSE_S / 2,
                    f"{after - before} s went by for the guest, of {real} s")
            t.equal(vm.sh("sleep 1")[0], 0, "timers of the guest")
            check_kernel_noticed_nothing(t, vm)
            qmp.ask("quit")
        t.equal(vm.wait(), ENDED_BY_USER, "exit status")


@scenario(seconds=90, guest=["debian"])
def debian_is_paused_and_powers_off(t):
    """A Debian goes on after a pause, and its power button can be pressed by a client."""
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""), "--cpus", "2",
                  "--qmp", address(t)) as vm:
        with Qmp(t.path("qmp")) as qmp:
            vm.login()
            vm.sh("until systemctl -q is-active systemd-logind; do sleep 1; done")
            qmp.ask("stop")
            time.sleep(PAUSE_S)
            qmp.ask("cont")
            check_kernel_noticed_nothing(t, vm)
            t.equal(vm.sh("dd if=/dev/urandom of=/root/blob bs=1M count=4 conv=fsync")[0], 0, "dd")
            qmp.ask("system_powerdown")
            qmp.wait_event("POWERDOWN")
            vm.expect("reboot: Power down", BOOT_S)
            t.equal(qmp.wait_event("SHUTDOWN")["guest"], True, "who ended it")
        t.equal(vm.wait(), GUEST_OFF, "exit status after the power button")
    t.check_qcow2("overlay.qcow2")
    t.tool("e2fsck", "-fn", t.to_raw("overlay.qcow2"))


@scenario(seconds=60, guest=["debian"])
def panic_of_a_debian_is_told(t):
    """pvpanic: its driver is loaded by udev, and a panic is an event and a line."""
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""),
                  "--qmp", address(t)) as vm:
        with Qmp(t.path("qmp")) as qmp:
            vm.login()
            if vm.sh("modinfo pvpanic-mmio")[0] != 0:
                t.skip("this guest's kernel has no driver for pvpanic")
            t.check("pvpanic_mmio" in vm.sh("lsmod")[1], "udev has not loaded pvpanic-mmio")
            vm.send("echo c >/proc/sysrq-trigger\n")
            t.equal(qmp.wait_event("GUEST_PANICKED")["action"], "run", "what happens next")
            t.check("kernel panicked" in vm.stderr(), "no line about the panic")
            qmp.ask("quit")
        t.equal(vm.wait(), ENDED_BY_USER, "exit status")
