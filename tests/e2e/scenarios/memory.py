# SPDX-License-Identifier: Apache-2.0
"""Memory that guests give back, and folders of the host that they mount."""

import contextlib
import hashlib
import os
import tempfile
import time

from lib.qmp import Qmp
from lib.testing import scenario

MIB = 1 << 20
# Linux 6.1 reports 256 MiB every two seconds: eight seconds, on a host with nothing else to do.
FREED_S = 30
FREED_SLACK_MIB = 100


def devices(t):
    return ["--initrd", t.guest_file("initramfs-devices.cpio.gz")]


def must(t, vm, command, timeout=120):
    status, output = vm.sh(command, timeout)
    t.equal(status, 0, f"{command}: {output.strip()[-300:]}")
    return output


def resident_mib(vm):
    with open(f"/proc/{vm.process.pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


def settled_mib(vm):
    """What is left when the guest has reported all that it will."""
    least = resident_mib(vm)
    for _ in range(20):
        time.sleep(1)
        now = resident_mib(vm)
        if now >= least:
            return least
        least = now
    return least


@scenario(seconds=60)
def memory_that_a_guest_frees_goes_back(t):
    """1 GiB that is touched and freed is with the host again after some seconds."""
    with t.busybox("--balloon", "on", *devices(t), do="shell", memory="1536M") as vm:
        vm.shell()
        must(t, vm, "modprobe virtio_balloon")
        must(t, vm, "mkdir -p /t; mount -t tmpfs -o size=1100m none /t")
        idle = settled_mib(vm)
        must(t, vm, "dd if=/dev/zero of=/t/file bs=1M count=1024", timeout=300)
        full = resident_mib(vm)
        t.check(full > idle + 1000, f"{idle} MiB idle, {full} MiB with 1 GiB")
        must(t, vm, "rm /t/file")
        freed = time.monotonic()
        while resident_mib(vm) >= idle + FREED_SLACK_MIB and time.monotonic() < freed + FREED_S:
            time.sleep(0.1)
        seconds, left = time.monotonic() - freed, resident_mib(vm)
        print(f"balloon: idle {idle} MiB, full {full} MiB, {left} MiB after {seconds:.1f} s",
              file=open(t.path("figures.log"), "w", encoding="utf-8"))
        t.check(seconds < FREED_S, f"{idle} MiB idle, {left} MiB {seconds:.1f} s after 1 GiB")
        # What went back is usable again.
        must(t, vm, "dd if=/dev/zero of=/t/file bs=1M count=512 && rm /t/file", timeout=300)
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), 0, "exit status")


def wait_for_memory(t, qmp, wanted, tolerance=8 * MIB):
    t.wait_until(lambda: abs(qmp.ask("query-balloon")["actual"] - wanted) <= tolerance,
                 f"{wanted} bytes for the guest", 180)


@scenario(seconds=60)
def a_client_takes_memory_and_gives_it_back(t):
    """`balloon` down and up, what is told of it, and a guest that is asked for too much."""
    with t.busybox("--balloon", "on", "--qmp", "unix:" + t.path("qmp"), *devices(t), do="shell",
                   memory="512M") as vm, Qmp(t.path("qmp")) as qmp:
        vm.shell()
        must(t, vm, "modprobe virtio_balloon")
        must(t, vm, "mkdir -p /t; mount -t tmpfs -o size=300m none /t")
        t.equal(qmp.ask("query-balloon")["actual"], 512 * MIB, "memory at first")
        must(t, vm, "dd if=/dev/zero of=/t/file bs=1M count=256 && rm /t/file")
        qmp.ask("balloon", value=256 * MIB)
        wait_for_memory(t, qmp, 256 * MIB)
        t.check(qmp.wait_event("BALLOON_CHANGE")["actual"] < 512 * MIB, "the event says more")
        stats = qmp.ask("query-balloon-stats")["stats"]
        t.check(0 < stats["stat-total-memory"] <= 512 * MIB, f"statistics: {stats}")
        must(t, vm, "echo still here")
        qmp.ask("balloon", value=512 * MIB)
        wait_for_memory(t, qmp, 512 * MIB)
        # More than it can do without: it takes pages back when it needs them.
        qmp.ask("balloon", value=1)
        time.sleep(5)
        must(t, vm, "dd if=/dev/zero of=/t/file bs=1M count=64 && rm /t/file", timeout=300)
        qmp.ask("balloon", value=512 * MIB)
        wait_for_memory(t, qmp, 512 * MIB)
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), 0, "exit status")


# ---- folders ------------------------------------------------------------------------------------

FILES = 10000


def fill(folder):
    """Files with different owners, more than there is room for where logs go."""
    os.makedirs(os.path.join(folder, "many"))
    for i in range(FILES):
        path = os.path.join(folder, "many", f"file-{i}")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"content of {i}\n")
        os.chown(path, 1000 + i % 3, 2000)


def mount(t, vm, tag="host"):
    must(t, vm, f"modprobe virtiofs; mkdir -p /mnt; mount -t virtiofs {tag} /mnt")


@scenario(seconds=120)
def a_folder_of_the_host_is_the_guests(t):
    """10 000 files with their owners, changes from both sides, a pause and a restart."""
    with tempfile.TemporaryDirectory() as folder, \
            t.busybox("--share", f"{folder},tag=host", "--qmp", "unix:" + t.path("qmp"),
                   "--on-reboot", "restart", *devices(t), do="shell") as vm, \
            Qmp(t.path("qmp")) as qmp:
        fill(folder)
        vm.shell()
        mount(t, vm)
        # Of all of them: names, and what the host says of each.
        owners = must(t, vm, "ls -ln /mnt/many | awk 'NF > 3 {print $3 \":\" $4}' | sort | uniq -c",
                      300)
        t.equal(owners.split(), ["3334", "1000:2000", "3333", "1001:2000", "3333", "1002:2000"],
                "files and their owners")
        t.equal(must(t, vm, "cat /mnt/many/file-99*").splitlines(),
                sorted(f"content of {i}" for i in (99, *range(990, 1000), *range(9900, 10000))),
                "contents")
        must(t, vm, "echo new >/mnt/new; chown 7:8 /mnt/new; chmod 640 /mnt/new; mkdir /mnt/d")
        status = os.stat(os.path.join(folder, "new"))
        t.equal((status.st_uid, status.st_gid, status.st_mode & 0o777), (7, 8, 0o640),
                "owner and mode of what the guest made")
        must(t, vm, "dd if=/dev/urandom of=/mnt/big bs=1M count=8; sync; md5sum /mnt/big >/sum")
        with open(os.path.join(folder, "big"), "rb") as file:
            t.equal(must(t, vm, "cat /sum").split()[0], hashlib.md5(file.read()).hexdigest(),
                    "8 MiB that the guest wrote")
        # Everything stands still in a pause, and goes on after it.
        vm.send("while :; do echo x >>/mnt/ticks; done &\n")
        vm.shell()
        ticks = os.path.join(folder, "ticks")
        t.wait_until(lambda: os.path.exists(ticks), "the first tick")
        qmp.ask("stop")
        before = os.stat(ticks).st_size
        time.sleep(1)
        t.equal(os.stat(ticks).st_size, before, "size during a pause")
        qmp.ask("cont")
        t.wait_until(lambda: os.stat(ticks).st_size > before, "a tick after the pause")
        vm.send("reboot -f\n")
        vm.shell()
        mount(t, vm)
        t.equal(must(t, vm, "cat /mnt/new").strip(), "new", "after a restart")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), 0, "exit status")


def kill_virtiofsd(t, vm):
    """A line says so."""
    line = "virtiofsd has ended (killed by signal 9)"
    before = vm.stderr().count(line)
    daemons = vm.descendants()
    t.check(daemons, "no virtiofsd runs")
    for pid in daemons:
        with contextlib.suppress(ProcessLookupError):  # one ends with the other
            os.kill(pid, 9)
    t.wait_until(lambda: vm.stderr().count(line) > before, "a line of the end")


@scenario(seconds=60)
def a_folder_can_be_readonly_and_its_daemon_can_die(t):
    """Writes fail; with virtiofsd killed, all of it fails, and a line says what happened."""
    folder = t.path("folder")
    os.makedirs(folder)
    with open(os.path.join(folder, "file"), "w", encoding="ascii") as file:
        file.write("text\n")
    with t.busybox("--share", f"{folder},tag=host,readonly=on", "--on-reboot", "restart",
                   *devices(t), do="shell") as vm:
        vm.shell()
        mount(t, vm)
        t.equal(must(t, vm, "cat /mnt/file").strip(), "text", "a file")
        for command in ("touch /mnt/new", "echo x >>/mnt/file", "rm /mnt/file", "mkdir /mnt/d",
                        "mount -o remount,rw /mnt; touch /mnt/new"):
            status, output = vm.sh(command)
            t.check(status != 0 and "Read-only" in output, f"{command}: {output}")
        kill_virtiofsd(t, vm)
        must(t, vm, "echo still here")
        status, output = vm.sh("cat /mnt/file")
        t.check(status != 0 and "error" in output, f"cat: {output}")
        must(t, vm, "sync; umount /mnt")
        vm.send("reboot -f\n")
        vm.shell()
        kill_virtiofsd(t, vm)  # before there is a driver
        mount(t, vm)  # Linux does not wait for an answer
        status, output = vm.sh("cat /mnt/file")
        t.check(status != 0, f"cat: {output}")
        vm.send("reboot -f\n")
        vm.shell()
        mount(t, vm)
        t.equal(must(t, vm, "cat /mnt/file").strip(), "text", "after a restart")
        daemons = vm.descendants()
        vm.kill()
        t.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in daemons),
                     "the end of virtiofsd")


@scenario(seconds=120, guest=["debian"])
def debian_mounts_a_folder_by_its_fstab_and_gives_memory_back(t):
    """The stock Debian finds both drivers by itself."""
    t.qemu_img("create", "-f", "qcow2", "-b", t.guest_file("debian.qcow2"), "-F", "qcow2",
               t.path("overlay.qcow2"))
    folder = t.path("folder")
    os.makedirs(folder)
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""),
                  "--share", f"{folder},tag=host", "--balloon", "on", "--memory", "1G") as vm:
        vm.login()
        must(t, vm, "mkdir -p /host; echo 'host /host virtiofs defaults,nofail 0 0' >>/etc/fstab")
        must(t, vm, "systemctl daemon-reload; mount /host; cp -r /etc/systemd /host/copy")
        must(t, vm, "diff -r /etc/systemd /host/copy; sync", 300)
        t.check(os.path.isfile(os.path.join(folder, "copy", "journald.conf")), "nothing was copied")
        must(t, vm, "lsmod | grep virtio_balloon")
        must(t, vm, "dd if=/dev/zero of=/dev/shm/file bs=1M count=400", 300)
        full = resident_mib(vm)
        must(t, vm, "rm /dev/shm/file")
        t.wait_until(lambda: resident_mib(vm) <= full - 300, f"300 MiB less than {full}",
                     4 * FREED_S)
        vm.send("poweroff\n")
        t.equal(vm.wait(400), 0, "exit status")


@scenario(seconds=60)
def an_ordinary_user_shares_a_folder(t):
    """What the guest's root makes is the user's."""
    program, t.minivmm = t.minivmm, "setpriv"
    with tempfile.TemporaryDirectory() as folder, \
            t.vm("--reuid", "1000", "--regid", "1000", "--clear-groups", program,
                 "--kernel", t.guest_file("vmlinuz"),
                 "--initrd", t.guest_file("initramfs-busybox.cpio.gz"), *devices(t),
                 "--append", "quiet minivmm.do=shell", "--memory", "192M",
                 "--share", f"{folder},tag=host") as vm:
        os.chown(folder, 1000, 1000)
        vm.shell()
        mount(t, vm)
        must(t, vm, "echo new >/mnt/new")
        t.equal(must(t, vm, "stat -c %u:%g /mnt/new").strip(), "0:0", "owner in the guest")
        status = os.stat(os.path.join(folder, "new"))
        t.equal((status.st_uid, status.st_gid), (1000, 1000), "owner on the host")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), 0, "exit status")
