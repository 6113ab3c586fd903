# SPDX-License-Identifier: Apache-2.0
"""What each command asks of a VM, and prints."""

import json
import os
import socket
import subprocess
import threading
import time

from fake_vm import ANSWERS, DISKS, CtlTest, FakeVm, Refusal, event, send

SHUTDOWN = ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})


class List(CtlTest):
    def test_no_vm(self):
        self.assertEqual(self.out("list"), "NAME  STATE  PID  MEMORY  CPUS  DISKS  UPTIME\n")
        self.assertEqual(self.json("list"), [])

    def test_vms_are_sorted_and_aligned(self):
        self.vm("web")
        self.vm("db", {"query-status": {"status": "paused", "running": False}})
        lines = self.out("list").splitlines()
        self.assertEqual([line.split()[:2] for line in lines[1:]],
                         [["db", "paused"], ["web", "running"]])
        for line in lines[1:]:
            self.assertRegex(line, rf"^\w+ +\w+ +{os.getpid()}  512 MiB     2      2 +\d")
            self.assertEqual(len(line), len(lines[0]))

    def test_json(self):
        self.vm("web")
        vm, = self.json("list")
        self.assertEqual((vm["name"], vm["state"], vm["pid"], vm["memory"], vm["cpus"]),
                         ("web", "running", os.getpid(), 512 << 20, 2))
        self.assertEqual(vm["socket"], self.path("web"))
        self.assertEqual(vm["disks"][1], {"device": "disk1", "file": "/vm/data.raw", "format": "raw",
                                          "size": 1 << 30, "used": 1 << 20, "readonly": True})
        self.assertGreaterEqual(vm["uptime"], 0)

    def test_sockets_left_behind_and_other_files_are_not_listed(self):
        self.vm("gone").close()
        for name in ("text.qmp", "-x.qmp", "a b.qmp", "notes", ".qmp"):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8"):
                pass
        self.assertEqual(len(self.out("list").splitlines()), 1)

    def test_vms_that_hang_are_shown_and_keep_nobody(self):
        for i in range(5):
            self.vm(f"hung{i}", greeting=None)
        self.vm("web")
        begin = time.monotonic()
        lines = self.out("--timeout", "1", "list").splitlines()
        self.assertLess(time.monotonic() - begin, 4.5)
        self.assertEqual([line.split()[:3] for line in lines[1:6]],
                         [[f"hung{i}", "unresponsive", str(os.getpid())] for i in range(5)])
        self.assertEqual(lines[6].split()[:2], ["web", "running"])

    def test_a_vm_that_is_slow_has_one_limit_for_all_it_is_asked(self):
        def slow(value):
            def answer(_arguments, _connection):
                time.sleep(0.7)
                return value
            return answer
        self.vm("web", {name: slow(value) for name, value in ANSWERS.items()
                        if name != "qmp_capabilities"})
        for args in (("list",), ("web", "status")):
            begin = time.monotonic()
            out = self.out("--timeout", "1", *args)
            self.assertLess(time.monotonic() - begin, 2.2)
            self.assertIn("running", out)

    def test_what_a_vm_does_not_know_is_left_open(self):
        def refuse(_arguments, _connection):
            raise Refusal("no")
        self.vm("web", {name: refuse for name in ("query-block", "query-cpus-fast",
                                                  "query-memory-size-summary", "query-chardev")})
        self.assertRegex(self.out("list").splitlines()[1], r"^web +running +\d+ +- +- +- +\w")
        self.assertIsNone(self.json("list")[0]["disks"])

    def test_a_runtime_folder_that_is_not_there_is_said(self):
        missing = self.path("missing")
        self.env["XDG_RUNTIME_DIR"] = missing
        out, err = self.ctl("list", "--json")
        self.assertIsInstance(json.loads(out), list)
        self.assertEqual(err, f"minivmm-ctl: XDG_RUNTIME_DIR: there is no {missing}: VMs started with "
                              "another value are not found\n")
        self.assertEqual(self.error(3, "nobody-has-this-name", "status"),
                         "minivmm-ctl: nobody-has-this-name: no VM of this name is found: "
                         f"XDG_RUNTIME_DIR: there is no {missing}")
        self.assertNotIn("XDG", self.ctl("--complete", "")[1])

    def test_without_a_runtime_folder_nothing_is_said(self):
        for value in ("here", ""):
            self.env["XDG_RUNTIME_DIR"] = value
            self.assertEqual(self.ctl("list")[1], "")

    def test_a_folder_that_others_can_write_to_is_refused(self):
        os.chmod(self.folder, 0o770)
        self.assertIn("mode 0700", self.error(5, "list"))
        self.assertIn("mode 0700", self.error(5, "web", "status"))


class Status(CtlTest):
    def test_text(self):
        self.vm()
        out = self.out("web", "status")
        self.assertRegex(out, r"(?m)^name         web\nstate        running\nPID          \d+\n")
        self.assertRegex(out, r"(?m)^memory       512 MiB\n")
        self.assertIn("serial port  stdio\n", out)
        self.assertIn("disk0  qcow2   10 GiB  1.5 GiB  rw    /vm/root.qcow2\n", out)
        self.assertIn("disk1  raw      1 GiB    1 MiB  ro    /vm/data.raw\n", out)

    def test_cards(self):
        card = {"name": "eth0", "type": "user", "peer": "passt", "link-up": True,
                "mac-address": "52:54:00:00:00:01", "mtu": 65520}
        self.vm("web", {"x-query-netdev": [card, {"name": "eth1", "peer": "tap\x1b0"}]})
        out = self.out("web", "status")
        self.assertRegex(out, r"(?m)^eth0 +up +52:54:00:00:00:01 +user +passt$")
        self.assertRegex(out, r"(?m)^eth1 +down +- +- +tap\\x1b0$")
        self.assertEqual(self.json("web", "status")["cards"][0],
                         {"name": "eth0", "type": "user", "peer": "passt", "up": True,
                          "address": "52:54:00:00:00:01"})

    def test_without_cards_nothing_is_said_of_them(self):
        self.vm("web", {"x-query-netdev": []})
        self.vm("qemu")
        for name, cards in (("web", []), ("qemu", None)):
            self.assertNotIn("CARD", self.out(name, "status"))
            self.assertEqual(self.json(name, "status")["cards"], cards)

    def test_disk_whose_size_is_not_told(self):
        self.vm("web", {"query-block": [
            {"device": "cd0"}, {"device": "new", "inserted": {"image": {"actual-size": 0}}}]})
        out = self.out("web", "status")
        self.assertRegex(out, r"(?m)^cd0 +- +- +- +rw +-$")
        self.assertRegex(out, r"(?m)^new +- +- +0 B +rw +-$")

    def test_json(self):
        self.vm()
        self.assertEqual(self.json("web", "status")["serial"], "stdio")

    def test_by_the_path_of_the_socket(self):
        self.vm()
        for prefix in ("", "unix:"):
            self.assertIn("running", self.out(prefix + self.path("web"), "status"))


    def test_by_tcp(self):
        vm = FakeVm(("127.0.0.1", 0))
        self.vms.append(vm)
        port = vm.socket.getsockname()[1]
        vm = self.json(f"tcp:127.0.0.1:{port}", "status")
        self.assertEqual((vm["name"], vm["pid"], vm["uptime"]), ("web", None, None))
        self.assertIn("running", self.out(f"tcp:localhost:{port}", "status"))
        self.assertIn("over TCP it is not known which process the VM is",
                      self.error(2, f"tcp:127.0.0.1:{port}", "console"))
        self.vms.pop().close()
        self.error(3, f"tcp:127.0.0.1:{port}", "status")


class Power(CtlTest):
    def test_pause_resume_reset(self):
        vm = self.vm("web", {"stop": {}, "cont": {}, "system_reset": {}})
        for command in ("pause", "resume", "reset"):
            self.assertEqual(self.out("web", command), "")
            self.assertEqual(self.json("web", command), {})
        self.assertEqual([name for name, _ in vm.requests if name != "qmp_capabilities"],
                         ["stop", "stop", "cont", "cont", "system_reset", "system_reset"])

    def press(self, *events, closes=True):
        """What system_powerdown does: answers, and later the guest ends."""
        def end(connection):
            time.sleep(0.3)
            for name, data in events:
                event(connection, name, **data)
            if closes:
                connection.shutdown(socket.SHUT_RDWR)

        def run(_arguments, connection):
            threading.Thread(target=end, args=(connection,), daemon=True).start()
            return {}
        return run

    def test_power_off_waits_for_the_end(self):
        self.vm("web", {"system_powerdown": self.press(("POWERDOWN", {}), SHUTDOWN)})
        begin = time.monotonic()
        self.assertEqual(self.json("web", "power-off"), {"reason": "guest-shutdown", "closed": True})
        self.assertGreater(time.monotonic() - begin, 0.25)
        self.assertEqual(self.out("web", "power-off"), "")

    def test_power_off_without_an_event(self):
        self.vm("web", {"system_powerdown": self.press()})
        self.assertEqual(self.json("web", "power-off"), {"reason": None, "closed": True})

    @staticmethod
    def states(*states):
        """What query-status answers, one after the other."""
        left = list(states)
        return lambda _arguments, _connection: {"status": left[0], "running": left.pop(0) == "running"}

    def test_power_off_lets_a_paused_guest_go_on(self):
        vm = self.vm("web", {"query-status": self.states("io-error", "running"),
                             "system_powerdown": {}, "cont": self.press(SHUTDOWN)})
        self.assertEqual(self.ctl("--timeout", "10", "web", "power-off")[1],
                         "minivmm-ctl: web: the guest stood still (io-error): it goes on, so that "
                         "it can power off\n")
        self.assertEqual([name for name, _ in vm.requests][-4:],
                         ["query-status", "system_powerdown", "cont", "query-status"])

    def test_power_off_of_a_guest_that_ends_as_soon_as_it_goes_on(self):
        self.vm("web", {"query-status": self.states("paused", "shutdown"),
                        "system_powerdown": {}, "cont": self.press(SHUTDOWN)})
        self.assertIn("it goes on", self.ctl("--timeout", "10", "web", "power-off")[1])

        def leave(_arguments, connection):
            connection.shutdown(socket.SHUT_RDWR)
        answers = [lambda *_: {"status": "paused", "running": False}, leave]
        self.vm("gone", {"query-status": lambda *args: answers.pop(0)(*args),
                         "system_powerdown": {}, "cont": {}})
        self.assertIn("it goes on", self.ctl("--timeout", "10", "gone", "power-off")[1])

    def test_power_off_of_a_paused_guest_that_is_held_as_well(self):
        for state in ("debug", "io-error"):
            self.vm(state, {"query-status": self.states("paused", state),
                            "system_powerdown": {}, "cont": {}})
            self.assertEqual(self.error(1, state, "power-off"),
                             f"minivmm-ctl: {state}: the button is pressed, but the guest does not "
                             f"go on ({state})")

    def test_power_off_of_a_guest_that_does_not_go_on(self):
        def refuse(_arguments, _connection):
            raise Refusal("gdb holds the guest")
        self.vm("web", {"query-status": {"status": "debug", "running": False},
                        "system_powerdown": {}, "cont": refuse})
        self.assertEqual(self.error(1, "web", "power-off"),
                         "minivmm-ctl: web: the button is pressed, but the guest stands still "
                         "(debug): gdb holds the guest")

    def test_power_off_leaves_a_guest_without_a_button_paused(self):
        def refuse(_arguments, _connection):
            raise Refusal("the guest has no power button")
        vm = self.vm("web", {"query-status": {"status": "paused", "running": False},
                             "system_powerdown": refuse, "cont": {}})
        self.error(1, "web", "power-off")
        self.assertEqual(vm.asked("cont"), [])

    def test_power_off_that_does_not_come(self):
        self.vm("web", {"system_powerdown": self.press(("RESET", {}), closes=False)})
        self.assertEqual(self.error(4, "--timeout", "0.6", "web", "power-off"),
                         "minivmm-ctl: web: the guest has not powered off within 0.6 s: --timeout "
                         "waits longer, --force ends it")

    def test_force_that_does_not_end_it(self):
        self.vm("web", {"quit": {}})
        self.assertEqual(self.error(4, "--timeout", "0.3", "web", "power-off", "--force"),
                         "minivmm-ctl: web: the VM has not ended within 0.3 s")

    def test_events_without_end_do_not_keep_power_off(self):
        def flood(_arguments, connection):
            def run():
                try:
                    while True:
                        event(connection, "RTC_CHANGE", offset=1)
                except OSError:
                    pass
            threading.Thread(target=run, daemon=True).start()
            return {}
        self.vm("web", {"system_powerdown": flood})
        begin = time.monotonic()
        self.error(4, "--timeout", "0.6", "web", "power-off")
        self.assertLess(time.monotonic() - begin, 10)

    def test_power_off_without_a_button(self):
        def refuse(_arguments, _connection):
            raise Refusal("the guest has no power button")
        self.vm("web", {"system_powerdown": refuse})
        self.assertEqual(self.error(1, "web", "power-off"),
                         "minivmm-ctl: web: the guest has no power button")

    def test_force_quits(self):
        def leave(_arguments, connection):
            connection.shutdown(socket.SHUT_RDWR)
            return {}
        vm = self.vm("web", {"quit": leave})
        self.assertEqual(self.out("web", "power-off", "--force"), "")
        self.assertEqual(len(vm.asked("quit")), 1)
        self.assertEqual(vm.asked("system_powerdown"), [])


class Jobs(CtlTest):
    JOB = {"device": "disk0", "type": "stream", "status": "running", "ready": False,
           "offset": 1 << 30, "len": 4 << 30, "speed": 0}
    HEADINGS = "JOB    TYPE    STATE    PROGRESS   DONE     OF  LIMIT/s\n"
    ROW = "disk0  stream  running      25 %  1 GiB  4 GiB        -\n"

    def jobs(self, *rounds):
        """A VM that shows these, one after the other; what can be called gets the connection."""
        left = list(rounds)

        def answer(_arguments, connection):
            now = left.pop(0) if len(left) > 1 else left[0]
            return now(connection) if callable(now) else now

        self.vm("web", {"query-block-jobs": answer})

    def ends(self, name, **data):
        def answer(connection):
            event(connection, name, device="disk0", type="stream", **data)
            return []

        return answer

    def follow(self, *more):
        return ("web", "jobs", "--follow", "--interval", "0.01", *more)

    def test_they_are_shown(self):
        self.jobs([self.JOB, {**self.JOB, "device": "x\x1b", "len": 0, "speed": 1 << 20}])
        self.assertEqual(self.out("web", "jobs").splitlines()[1:],
                         ["disk0  stream  running      25 %  1 GiB  4 GiB        -",
                          "x\\x1b  stream  running         -  1 GiB    0 B    1 MiB"])
        self.assertEqual(self.json("web", "jobs")[0], self.JOB)

    def test_there_is_none(self):
        self.jobs([])
        self.assertEqual(self.out("web", "jobs"), "")
        self.assertEqual(self.out(*self.follow()), "")

    def test_one_is_followed_to_its_end(self):
        self.jobs([self.JOB], [self.JOB], self.ends("BLOCK_JOB_COMPLETED"))
        self.assertEqual(self.out(*self.follow()), 2 * (self.HEADINGS + self.ROW) + "disk0: done\n")

    def test_some_end_at_once(self):
        def end(connection):
            self.ends("BLOCK_JOB_COMPLETED")(connection)
            event(connection, "BLOCK_JOB_COMPLETED", device="x\x1b", type="commit")
            event(connection, "BLOCK_JOB_COMPLETED", device="disk1", type="commit", error="full")
            return []

        self.jobs([self.JOB], end)
        out, err = self.ctl(*self.follow(), status=1)
        self.assertEqual(out, self.HEADINGS + self.ROW + "disk0: done\nx\\x1b: done\n")
        self.assertEqual(err, "minivmm-ctl: web: disk1: full\n")

    def test_one_that_fails(self):
        self.jobs([self.JOB], self.ends("BLOCK_JOB_COMPLETED", error="No space left on device"))
        out, err = self.ctl(*self.follow(), status=1)
        self.assertEqual(out, self.HEADINGS + self.ROW)
        self.assertEqual(err, "minivmm-ctl: web: disk0: No space left on device\n")

    def test_one_that_is_cancelled(self):
        self.jobs([self.JOB], self.ends("BLOCK_JOB_CANCELLED"))
        err = self.ctl(*self.follow(), status=1)[1]
        self.assertEqual(err, "minivmm-ctl: web: disk0: cancelled\n")

    def test_one_that_waits_to_be_completed_is_not_waited_for(self):
        self.jobs([self.JOB], [{**self.JOB, "status": "ready", "ready": True}])
        self.assertIn("ready", self.out(*self.follow()))

    def test_a_vm_that_ends_meanwhile(self):
        def end(connection):
            connection.shutdown(socket.SHUT_RDWR)
            return []

        self.jobs([self.JOB], end)
        self.ctl(*self.follow(), status=4)

    def test_wrong_words(self):
        self.jobs([])
        self.error(2, "web", "jobs", "disk0")
        self.error(2, "web", "status", "--follow")


class Disks(CtlTest):
    def setUp(self):
        super().setUp()
        commands = ("block_resize", "blockdev-snapshot-sync", "blockdev-snapshot-internal-sync",
                    "blockdev-snapshot-delete-internal-sync", "block_set_io_throttle")
        self.fake = self.vm("web", dict.fromkeys(commands, {}))

    def asks(self, command, arguments, *args, says=""):
        self.assertEqual(self.out("web", *args), says)
        self.assertEqual(self.fake.asked(command)[-1], arguments)

    def test_resize(self):
        self.asks("block_resize", {"device": "disk0", "size": 20 << 30}, "resize", "disk0", "20G")
        self.asks("block_resize", {"device": "disk0", "size": 15 << 30}, "resize", "disk0", "+5G")
        self.asks("block_resize", {"device": "disk1", "size": 1 << 20}, "resize", "disk1", "1048576")

    def test_resize_to_what_is_no_size(self):
        for size in ("", "+", "ten", "-1G", "1.5G", "16E", "9223372036854775808", "+16777215T"):
            self.error(2, "web", "resize", "--", "disk0", size)
        self.assertEqual(self.fake.asked("block_resize"), [])

    def test_disks_that_are_not_there(self):
        for args in (("resize", "hda", "+1G"), ("throttle", "hda"), ("snapshot", "hda")):
            self.assertEqual(self.error(1, "web", *args),
                             "minivmm-ctl: web: hda: there is no such disk")

    def test_snapshot_into_a_file(self):
        for name, path in (("/a/b.qcow2", "/a/b.qcow2"), ("b.qcow2", os.getcwd() + "/b.qcow2")):
            self.asks("blockdev-snapshot-sync",
                      {"device": "disk0", "snapshot-file": path, "format": "qcow2"},
                      "snapshot", "disk0", name,
                      says="disk0 is in the new image: name that at the next start\n")

    def test_snapshot_into_a_file_without_a_name(self):
        gone = os.path.join(self.runtime, "gone")
        os.mkdir(gone)
        done = subprocess.run(["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" web snapshot disk0 b',
                               "sh", gone, self.program], env=self.env, capture_output=True,
                              timeout=10, check=False)
        self.assertEqual((done.returncode, done.stderr),
                         (5, b"minivmm-ctl: web: b: expected a whole path, as the folder here has "
                             b"none: No such file or directory\n"))
        self.assertEqual(self.fake.asked("blockdev-snapshot-sync"), [])

    def test_disk_that_is_named_twice(self):
        self.vm("twice", {"query-block": DISKS + DISKS})
        self.assertEqual(self.out("twice", "throttle", "disk1"), "no limits\n")

    def test_snapshots_inside(self):
        for option, command in (("--internal", "blockdev-snapshot-internal-sync"),
                                ("--delete", "blockdev-snapshot-delete-internal-sync")):
            self.asks(command, {"device": "disk0", "name": "s1"}, "snapshot", "disk0", option, "s1")
        self.assertEqual(self.out("web", "snapshot", "disk0"), "ID  NAME\n 1  before\n")
        self.assertEqual(self.json("web", "snapshot", "disk0"), [{"id": "1", "name": "before"}])
        self.assertEqual(self.out("web", "snapshot", "disk1"), "no snapshots\n")
        self.assertEqual(self.json("web", "snapshot", "disk1"), [])
        self.error(2, "web", "snapshot", "disk0", "file", "--internal", "s1")
        self.error(2, "web", "snapshot", "disk0", "--delete", "s", "--internal", "s")

    def test_throttle_shows(self):
        self.assertEqual(self.out("web", "throttle", "disk0"), "bps_rd             1000 B\n"
                                                               "bps_rd_max         4.9 KiB\n"
                                                               "bps_rd_max_length  1\n")
        self.assertEqual(self.out("web", "throttle", "disk1"), "no limits\n")

    def test_throttle_changes_what_is_named(self):
        none = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        was = {**none, "device": "disk0", "bps_rd": 1000, "bps_rd_max": 5000, "bps_rd_max_length": 1}
        self.asks("block_set_io_throttle", {**was, "iops": 100, "bps_wr": 10 << 20},
                  "throttle", "disk0", "iops=100", "bps_wr=10M")
        self.asks("block_set_io_throttle", {**none, "device": "disk0", "bps": 1000},
                  "throttle", "disk0", "off", "bps=1000")

    def test_throttle_by_what_is_no_limit(self):
        for text in ("bps", "bps=", "=1", "bps=x", "speed=1", "bpsx=1", "iops=-1", "iops=99999999T"):
            self.error(2, "web", "throttle", "disk0", text)
        self.assertEqual(self.fake.asked("block_set_io_throttle"), [])


class Qmp(CtlTest):
    def test_any_command(self):
        vm = self.vm("web", {"x-echo": lambda arguments, _connection: arguments})
        self.assertEqual(json.loads(self.out("web", "qmp", "x-echo", '{"a": [1, "b"]}')),
                         {"a": [1, "b"]})
        self.assertEqual(json.loads(self.out("web", "qmp", "query-status"))["status"], "running")
        self.assertEqual(vm.asked("query-status"), [{}])

    def test_errors(self):
        self.vm()
        self.assertEqual(self.error(1, "web", "qmp", "teapot"),
                         "minivmm-ctl: web: The command teapot has not been found")
        self.error(2, "web", "qmp", "query-status", "{")
        self.error(2, "web", "qmp", "query-status", "[]")
        self.error(2, "web", "qmp")


class Top(CtlTest):
    def setUp(self):
        super().setUp()
        self.count = 0
        self.vm("web", {"query-stats": self.stats, "query-blockstats": self.block_stats})

    def stats(self, arguments, _connection):
        self.assertEqual(arguments["target"], "vcpu")
        self.count += 1
        return [{"provider": "kvm", "qom-path": f"/machine/cpu[{i}]",
                 "stats": [{"name": "io_exits", "value": self.count * 100 * (i + 1)},
                           {"name": "mmio_exits", "value": 5},
                           {"name": "other", "value": self.count}]} for i in range(2)]

    def block_stats(self, _arguments, _connection):
        return [{"device": "disk0", "stats": {"rd_bytes": self.count << 20, "rd_operations": 7,
                                              "wr_bytes": 0, "wr_operations": 0,
                                              "flush_operations": 0}}]

    def test_json(self):
        rates = self.json("web", "top", "--interval", "0.5")
        first, second = rates["vcpus"]
        self.assertAlmostEqual(first["reasons"]["io"], 200, delta=40)
        self.assertAlmostEqual(second["exits"], 400, delta=80)
        self.assertEqual(first["reasons"]["mmio"], 0)
        self.assertNotIn("other", first["reasons"])
        self.assertAlmostEqual(rates["disks"][0]["rd_bytes"], 2 << 20, delta=1 << 19)
        self.assertGreater(rates["resident"], 1 << 20)

    def test_text_is_one_page_where_it_is_no_terminal(self):
        out = self.out("web", "top", "--interval", "0.1")
        self.assertRegex(out, r"^web: running, up \w")
        self.assertRegex(out, r"(?m)^CPU  EXITS/s +io$")  # none is mmio
        self.assertRegex(out, r"(?m)^  1 .*\n  0 ")  # the busier one first
        self.assertRegex(out, r"(?m)^disk0 +[\d.]+ MiB +0 ")

    def test_process_that_is_not_known(self):
        vm = FakeVm(("127.0.0.1", 0))
        self.vms.append(vm)
        address = f"tcp:127.0.0.1:{vm.socket.getsockname()[1]}"
        self.assertEqual(self.out(address, "top", "--interval", "0.05").splitlines()[:2],
                         [f"{address}: running, up -", "host CPU -, resident -"])

    def test_count(self):
        out = self.out("web", "top", "--interval", "0.05", "--count", "3")
        self.assertEqual(out.count("web: running"), 3)

    def test_vm_that_ends(self):
        def leave(_arguments, connection):
            connection.shutdown(socket.SHUT_RDWR)
        self.vm("end", {"query-stats": leave})
        self.assertIn("end: the connection has ended", self.error(4, "end", "top"))


class CommandLine(CtlTest):
    def test_help(self):
        self.assertIn("power-off [--force]\n", self.out("--help"))
        self.assertIn("any, list those", self.out("--help"))
        self.assertRegex(self.out("--version"), r"^minivmm-ctl version \d")

    def test_usage(self):
        for args in ((), ("web",), ("web", "list"), ("web", "dance"), ("list", "x"), ("--nonsense",),
                     ("web", "status", "x"), ("web", "status", "--force"), ("web", "resize", "disk0"),
                     ("--timeout", "0", "list"), ("--timeout", "x", "list"), ("--timeout",),
                     ("web", "top", "--count", "0"), ("web", "console", "--detach-key", "a"),
                     ("a b", "status"), ("--timeout", "nan", "list"), ("tcp:127.0.0.1:0", "status")):
            with self.subTest(args=args):
                self.error(2, *args)

    def test_what_is_no_utf8(self):
        vm = self.vm()
        for args in (("qmp", b"\xff"), ("resize", b"\xff", "1G"), ("snapshot", "disk0", b"/\xff"),
                     ("snapshot", "disk0", "--internal", b"\xff")):
            self.assertIn("UTF-8", self.error(2, "web", *args))
        self.assertEqual([name for name, _ in vm.requests if name != "qmp_capabilities"], [])

    def test_options_may_follow_the_command(self):
        self.vm()
        self.assertEqual(json.loads(self.out("web", "status", "--json"))["name"], "web")

    def test_addresses_that_are_none(self):
        for address in ("tcp:1.2.3.4:1", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:65536",
                        "tcp:127.0.0.1:x"):
            self.assertEqual(self.error(2, address, "status"),
                             f"minivmm-ctl: {address}: expected tcp:127.0.0.1:PORT")

    def test_what_is_no_socket(self):
        for path in (self.runtime, self.program):
            self.assertEqual(self.error(3, path, "status"),
                             f"minivmm-ctl: {path}: that is no socket")

    def test_no_such_vm(self):
        self.vm("gone").close()
        self.assertEqual(self.error(3, "nobody", "status"),
                         "minivmm-ctl: nobody: no VM of this name runs")
        self.error(3, "gone", "status")
        self.error(3, "./nobody", "status")
        self.error(3, self.path("gone"), "status")

    def test_output_that_is_lost(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([self.program, "list"], env=self.env, stdout=full,
                                  stderr=subprocess.PIPE, timeout=10, check=False)
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"cannot write to standard output: No space left", done.stderr)


class Hostile(CtlTest):
    def test_what_speaks_something_else(self):
        for i, greeting in enumerate((b"SSH-2.0-OpenSSH\r\n", b"[]\n", b'{"hello": 1}\n', b"\n",
                                      b"\x00\n", b"[" * 100000 + b"\n")):
            self.vm(f"vm{i}", greeting=greeting)
            self.assertIn("does not speak QMP", self.error(4, f"vm{i}", "status"))

    def test_message_without_end(self):
        self.vm(greeting=b'{"QMP": "' + b"x" * (5 << 20))
        self.assertIn("an answer of more than 4 MiB", self.error(4, "web", "status"))

    def test_half_a_greeting(self):
        self.vm(greeting=b'{"QMP": ')
        self.assertIn("no answer in time", self.error(4, "--timeout", "0.3", "web", "status"))

    def test_answers_that_do_not_come(self):
        def events(_arguments, connection):
            for _ in range(1000):
                event(connection, "X")
            time.sleep(2)

        def events_without_end(_arguments, connection):
            while True:
                event(connection, "X")
                time.sleep(0.01)
        for i, answer in enumerate((lambda _a, _c: time.sleep(2), events, events_without_end)):
            self.vm(f"vm{i}", {"stop": answer})
            begin = time.monotonic()
            self.assertIn("no answer in time", self.error(4, "--timeout", "0.3", f"vm{i}", "pause"))
            self.assertLess(time.monotonic() - begin, 10)

    def test_answers_to_others_are_passed_over(self):
        def answer(_arguments, connection):
            for other in (99, "x", None):
                send(connection, {"return": {"status": "wrong"}, "id": other})
            return {"status": "paused"}
        self.vm("web", {"query-status": answer})
        self.assertEqual(self.json("web", "status")["state"], "paused")

    def test_answers_of_any_shape(self):
        for i, value in enumerate((None, 1, "x", [], {}, [[]], [{"device": 1, "inserted": []}],
                                   [{"inserted": {"image": []}, "device": None}],
                                   [{"stats": 1, "qom-path": 2}], [{"stats": [{"name": 1}]}],
                                   [{"stats": [{"name": "io_exits", "value": "x"}]}])):
            with self.subTest(value=value):
                name = f"vm{i}"
                self.vm(name, dict.fromkeys(("query-status", "query-name", "query-chardev", "query-block",
                                             "query-memory-size-summary", "query-cpus-fast",
                                             "query-stats", "query-blockstats"), value))
                self.out("list")
                self.out(name, "status")
                self.out("--complete", name, "resize", "")
                self.out(name, "top", "--interval", "0.01")

    def test_escape_sequences_are_written_out(self):
        nasty = "\x1b]0;owned\x07\x1b[2J\r\x7f\u009b31m\n"

        def refuse(_arguments, _connection):
            raise Refusal(nasty)
        self.vm("web", {"query-status": {"status": nasty}, "query-name": {"name": nasty},
                        "stop": refuse, "query-chardev": [{"label": nasty, "filename": nasty}],
                        "query-block": [{"device": nasty, "inserted": {"file": nasty}}],
                        "query-blockstats": [{"device": nasty, "stats": {}}],
                        "query-stats": [{"qom-path": nasty, "stats": [
                            {"name": nasty + "_exits", "value": 1}]}]})
        self.assertIn("owned", self.out("web", "status"))
        self.assertIn("owned", self.out("list"))
        self.assertIn("owned", self.out("web", "top", "--interval", "0.05"))
        self.assertIn("owned", self.error(1, "web", "pause"))
        self.assertIn("owned", self.error(1, "web", "console"))
        self.assertEqual(self.json("web", "status")["name"], nasty)
        self.assertEqual(self.out("--complete", "web", "resize", ""), "")
        self.error(2, nasty, "status")
        self.error(2, "web", nasty)
        self.error(3, "/" + nasty, "status")
