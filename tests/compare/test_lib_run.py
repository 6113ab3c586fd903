# SPDX-License-Identifier: Apache-2.0
"""A process and what it prints; progress and time left; what /proc and a timeline say."""

import contextlib
import io
import os
import struct
import sys
import tempfile
import time
import types
import unittest
from unittest import mock

from lib import guest, proc, progress, sides, starts, timeline, vmlinux
from lib.run import Run
from made_runs import script_module


def shell(text):
    return Run(["sh", "-c", text])


class Process(unittest.TestCase):
    def test_times_of_a_line_and_of_the_end(self):
        with shell("echo one; read line; echo two; read line") as run:
            one = run.wait_for(b"one", 10)
            time.sleep(0.1)
            run.send("\n")
            two = run.wait_for(b"two", 10)
            time.sleep(0.1)
            run.send("\n")
            end = run.wait_end(10)
        self.assertGreaterEqual(two - one, 0.1)
        self.assertGreaterEqual(end - two, 0.1)
        self.assertEqual(run.process.returncode, 0)

    def test_the_end_is_counted_from_the_guests_last_line(self):
        with shell("echo 'reboot: Restarting'; read line; echo bye") as run:
            last_line = run.wait_for(b"Restarting\n", 10)
            run.send("\n")
            end = run.wait_end(10)
        self.assertEqual(run.time_of_last(guest.LAST_LINE), last_line)
        self.assertLess(last_line, run.last_output)
        self.assertLessEqual(run.last_output, end)

    def test_a_last_line_in_pieces_ends_with_its_last_byte(self):
        with shell("printf 'reboot: Pow'; read line; echo er down") as run:
            piece = run.wait_for(b"Pow", 10)
            run.send("\n")
            run.wait_end(10)
        self.assertEqual(run.time_of_last(guest.LAST_LINE), run.last_output)
        self.assertLess(piece, run.last_output)

    def test_a_guest_without_a_last_line_ends_with_the_output(self):
        with shell("echo hello") as run:
            run.wait_end(10)
        self.assertEqual(run.time_of_last(guest.LAST_LINE), run.last_output)

    def test_a_line_after_another_one(self):
        with shell("echo '# '; read line; echo \"got $line\"; echo '# '; sleep 60") as run:
            run.wait_for(b"# ", 10)
            seen = len(run.output)
            run.send("text\n")
            run.wait_for(b"# ", 10, seen)
            self.assertIn(b"got text", run.output)

    def test_the_end_before_the_line(self):
        with self.assertRaisesRegex(RuntimeError, "ended early: out of memory"):
            with shell("echo booting; echo out of memory") as run:
                run.wait_for(b"login", 10)

    def test_silence(self):
        with self.assertRaises(TimeoutError):
            with shell("echo hello; sleep 60") as run:
                run.wait_for(b"login", 0.2)

    def test_an_end_that_does_not_come(self):
        with self.assertRaises(TimeoutError):
            with shell("exec >&- 2>&-; sleep 60") as run:
                run.wait_end(0.2)

    def test_nothing_survives_the_block(self):
        with shell("sleep 60 & echo $!; wait") as run:
            run.wait_for(b"\n", 10)
            child = int(run.output)
        for _ in range(100):
            time.sleep(0.05)
            try:
                with open(f"/proc/{child}/stat", encoding="ascii", errors="replace") as f:
                    if f.read().rpartition(")")[2].split()[0] == "Z":
                        return
            except (FileNotFoundError, ProcessLookupError):
                return
        self.fail("the child runs on")


class KernelCache(unittest.TestCase):
    def filled(self, name, **options):
        """The command that fills the cache of a side, or None."""
        attempt = types.SimpleNamespace(side=types.SimpleNamespace(name=name, program="vmm"),
                                        guest=guest.Guest("vmlinuz", options=options))
        with mock.patch("subprocess.run") as run:
            starts.fill_cache(attempt)
        return run.call_args[0][0] if run.call_args else None

    def test_is_filled_before_many_start(self):
        self.assertEqual(self.filled("minivmm", kernel_cache="/c"),
                         ["vmm", "--prepare-kernel", "vmlinuz", "--kernel-cache", "/c"])

    def test_is_not_filled_where_there_is_none(self):
        self.assertIsNone(self.filled("minivmm", kernel_cache="off"))
        self.assertIsNone(self.filled("minivmm"))
        self.assertIsNone(self.filled("other", kernel_cache="/c"))


class Progress(unittest.TestCase):
    def test_estimates_become_what_was_measured(self):
        meter = progress.Meter([("a", 10), ("a", 10), ("b", 20)])
        self.assertEqual(meter.left_s(), 40)
        meter.done("a", 5)
        self.assertEqual(meter.left_s(), 5 + 20 / 2)
        meter.done("a", 7)
        self.assertAlmostEqual(meter.left_s(), 20 * 12 / 20)
        meter.drop("b")
        self.assertEqual(meter.left_s(), 0)

    def test_what_another_program_sends_is_shown(self):
        class Display:
            states, lines = [], []

            def set(self, *state):
                self.states.append(state)

            def say(self, line):
                self.lines.append(line)

        display = Display()
        stream = io.StringIO("progress: 3 40 one, a\nwarning: x\nprogress: end\n")
        self.assertTrue(progress.follow(stream, display))
        self.assertEqual(display.states, [(3.0, 40.0, "one, a")])
        self.assertEqual(display.lines, ["warning: x"])
        self.assertFalse(progress.follow(io.StringIO("progress: 3 4"), display))

    def test_durations_can_be_read(self):
        self.assertEqual([progress.duration(s) for s in (7, 99, 125, 7265)],
                         ["7 s", "99 s", "2 min 05 s", "2 h 01 min"])


SMAPS = """\
55d000000000-55d000100000 r-xp 00000000 08:01 1 /bin/vmm
Size:               1024 kB
Rss:                 900 kB
Pss:                 450 kB
Shared_Dirty:          0 kB
Private_Dirty:         4 kB
7f0000000000-7f0001000000 rw-p 00000000 00:00 0
Size:              16384 kB
Rss:                 100 kB
Pss:                 100 kB
Shared_Dirty:          0 kB
Private_Dirty:       100 kB
7f0001000000-7f0002000000 rw-p 00001000 08:01 2 /cache/0123.kernel
Size:              16384 kB
Rss:                 200 kB
Pss:                  50 kB
Shared_Dirty:          8 kB
Private_Dirty:        10 kB
7f0002000000-7f0004000000 rw-p 00000000 00:00 0
Size:              32768 kB
Rss:                 300 kB
Pss:                 300 kB
Shared_Dirty:          0 kB
Private_Dirty:       300 kB
7f0005000000-7f0005800000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                   8 kB
Pss:                   8 kB
Shared_Dirty:          0 kB
Private_Dirty:         8 kB
VmFlags: rd wr mr mw me ac
"""
# Parts of a RAM that huge pages are wanted for; something else begins where it ends.
ADVISED = """\
7f0000000000-7f0001000000 rw-p 00000000 00:00 0
Size:              16384 kB
VmFlags: rd wr mr mw me ac dd
7f0001000000-7f0002000000 rw-p 00000000 00:00 0
Size:              16384 kB
VmFlags: rd wr mr mw me ac dd hg
7f0002000000-7f0003000000 rw-p 00000000 00:00 0
Size:              16384 kB
VmFlags: rd wr mr mw me ac dd
7f0003000000-7f0003800000 rw-p 00000000 00:00 0
Size:               8192 kB
VmFlags: rd wr mr mw me ac
"""


class Memory(unittest.TestCase):
    def mappings(self):
        return proc.parse_smaps(SMAPS.splitlines())

    def test_a_kernel_in_the_ram_is_part_of_it(self):
        joined = proc.join_ram(self.mappings())
        self.assertEqual([m.kib["Size"] for m in joined], [1024, 65536, 8192])
        self.assertEqual(joined[1].kib["Rss"], 600)
        ram, = proc.ram(joined, 64 << 10)
        self.assertIs(ram, joined[1])

    def test_huge_pages_are_wanted_for_a_part_of_the_ram(self):
        joined = proc.join_ram(proc.parse_smaps(ADVISED.splitlines()))
        self.assertEqual([m.kib["Size"] for m in joined], [49152, 8192])

    def test_ram_may_be_in_several_mappings(self):
        found = proc.ram(self.mappings(), 48 << 10)
        self.assertEqual(sorted(m.kib["Size"] for m in found), [16384, 32768])

    def test_less_than_the_ram_is_an_error(self):
        with self.assertRaises(RuntimeError):
            proc.ram(self.mappings(), 1 << 20)

    def test_of_this_process(self):
        own = proc.threads(os.getpid())[str(os.getpid())]
        self.assertTrue(own.is_own)
        self.assertGreater(own.cpu_s, 0)
        self.assertGreater(proc.cpu_s(os.getpid()), 0)

    def test_vcpus_are_known_by_what_they_ran(self):
        def thread(name, switches, guest_s=0.0):
            return proc.Thread(name, switches, 1.0, guest_s)

        # The second first runs guest code between the two, the last one is new.
        before = {"1": thread("qemu", 10), "2": thread("qemu", 100), "3": thread("qemu", 1000, 0.5),
                  "4": thread("kvm-nx-lpage-re", 0), "5": thread("ends", 7)}
        after = {"1": thread("qemu", 13), "2": thread("qemu", 150, 0.1),
                 "3": thread("qemu", 1700, 0.9), "4": thread("kvm-nx-lpage-re", 9000),
                 "6": thread("vcpu of no guest", 2)}
        self.assertEqual(proc.wakeups(before, after), (3 + 2, 3 + 50 + 700 + 9000 + 2))

    def test_the_guest_time_of_a_thread(self):
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as f:
            fields = ["0"] * 50
            fields[11], fields[12], fields[40] = "30", "20", "10"
            f.write("17 (a ) name) " + " ".join(fields) + "\n")
            f.flush()
            ticks = os.sysconf("SC_CLK_TCK")
            self.assertEqual(proc.cpu_times(f.name), (50 / ticks, 10 / ticks))


class Timeline(unittest.TestCase):
    def test_values(self):
        events = [{"ph": "M", "name": "thread_name", "tid": 1},
                  {"ph": "X", "name": "read the options", "ts": 1_000_000, "dur": 50},
                  {"ph": "X", "name": "load the guest", "ts": 1_001_000, "dur": 8000},
                  {"ph": "i", "name": "first KVM_RUN", "ts": 1_010_000},
                  {"ph": "i", "name": "first KVM_RUN", "ts": 1_020_000},
                  {"ph": "i", "name": "first output byte", "ts": 1_030_000},
                  {"ph": "i", "name": "the guest powers off", "ts": 2_000_000}]
        found = timeline.values(events, 0.998, 2.003)
        rounded = {name: round(value, 3) for name, value in found.items()}
        self.assertEqual(rounded, {"main_ms": 2, "load_ms": 8, "to_run_ms": 10, "to_output_ms": 20,
                                   "to_exit_ms": 3})


class Programs(unittest.TestCase):
    def assert_refused(self, words, function, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.code, 2)
        self.assertIn(words, said.getvalue())

    def test_settings_of_programs(self):
        self.assertEqual(sides.programs(["minivmm=/a=b"]), {"minivmm": "/a=b"})
        for bad in ("minivmm", "minivmm=", "nobody=/x"):
            self.assert_refused("expected NAME=PATH", sides.programs, [bad])

    def test_what_was_named_has_to_be_here(self):
        self.assert_refused("no such program", sides.find, [], ["minivmm=/missing/minivmm"])
        with mock.patch.object(sides.adapters()["minivmm"], "PROGRAM", "/missing/minivmm"):
            self.assert_refused("/missing/minivmm: no such program; run `make all tests`",
                                sides.find, [], [])
        self.assert_refused("no such adapter", sides.find, ["nobody"], [])
        self.assert_refused("no such adapter", sides.find, ["host"], [])
        self.assertEqual([side.name for side in sides.find(["host"], [], jobs=True)], ["host"])
        found = sides.find(["minivmm"], [f"minivmm={sys.executable}"])
        self.assertEqual([(side.label, side.program) for side in found],
                         [("minivmm", os.path.abspath(sys.executable))])

    def test_every_adapter_says_what_is_asked_of_it(self):
        for name, module in sides.adapters().items():
            with self.subTest(name=name):
                self.assertIn(module.TRIED, (True, False))
                self.assertIn(module.ENDS_BY, ("poweroff", "reboot"))
                self.assertTrue(set(module.DISK_FORMATS) <= {"qcow2", "raw"})
                self.assertIsInstance(module.CMDLINE, str)
                self.assertIsInstance(module.PROGRAM, str)


class Payload(unittest.TestCase):
    def test_the_payload_of_a_bzimage(self):
        image = bytearray(4096)
        image[0x1f1] = 3
        image[0x202:0x206] = b"HdrS"
        struct.pack_into("<II", image, 0x248, 16, 12)
        image[2064:2076] = b"packed\0\0size"
        self.assertEqual(vmlinux.payload(bytes(image)), b"packed\0\0")

    def test_what_unpacks_is_missing(self):
        image = bytearray(4096)
        image[0x202:0x206] = b"HdrS"
        struct.pack_into("<II", image, 0x248, 0, 12)
        image[2560:2564] = b"\x02\x21\x4c\x18"
        with tempfile.NamedTemporaryFile() as f:
            f.write(image)
            f.flush()
            with mock.patch.dict(os.environ, {"PATH": "/nowhere"}), \
                    self.assertRaisesRegex(vmlinux.NoProgram, "lz4 is missing; .*setup guest"):
                vmlinux.unpack(f.name)

    def test_a_case_that_is_left_out_is_said(self):
        part = script_module("boot-time").BootTime()
        part.args = types.SimpleNamespace(kernel=sys.executable)
        missing = mock.patch("lib.vmlinux.unpack", side_effect=vmlinux.NoProgram("lz4 is missing"))
        with missing, contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual((part.unpacked, part.unpacked), ("", ""))
        self.assertEqual(said.getvalue(),
                         "boot-time: the case vmlinux is left out: lz4 is missing\n")

    def test_other_files_are_not_unpacked(self):
        with tempfile.NamedTemporaryFile() as f:
            for data in (b"", b"text", bytes(4096)):
                f.seek(0)
                f.write(data)
                f.flush()
                self.assertEqual(vmlinux.unpack(f.name), "")
