# SPDX-License-Identifier: Apache-2.0
"""What fio, sysbench and iperf3 print in a guest, and what /proc says of a process."""

import os
import socket
import subprocess
import tempfile
import types
import unittest

from lib import cost, fio, jobs
from made_runs import script_module

PERCENTILES = ["1.000000%=90", "50.000000%=200", "99.000000%=410", "99.900000%=500"]


def direction(total_kib, runtime_ms, mean_us):
    """41 fields of fio's terse output."""
    fields = ["0"] * 41
    fields[fio.TOTAL_KIB], fields[fio.RUNTIME_MS] = str(total_kib), str(runtime_ms)
    fields[fio.LATENCY_MEAN_US] = str(mean_us)
    percentiles = PERCENTILES + ["0%=0"] * (fio.NPERCENTILES - len(PERCENTILES))
    fields[fio.PERCENTILES:fio.PERCENTILES + fio.NPERCENTILES] = percentiles
    return fields


def terse(reads, writes, error="0"):
    return ";".join(["3", "fio-3.33", "job", "0", error, *reads, *writes, "1.0%", "2.0%"]) + "\n"


class Fio(unittest.TestCase):
    def test_reads_and_writes_are_told_apart(self):
        text = terse(direction(4000, 2000, 250.5), direction(640, 1000, 99.0))
        read = fio.parse(text, fio.Pattern("randread", 4096))
        self.assertEqual(read, {"requests": 1000, "seconds": 2, "median_us": 200, "mean_us": 250.5,
                                "p99_us": 410})
        self.assertEqual(fio.parse(text, fio.Pattern("write", 65536))["requests"], 10)

    def test_other_lines_do_not_matter(self):
        text = "fio: a warning\n" + terse(direction(4, 1, 1), direction(0, 0, 0))
        self.assertEqual(fio.parse(text, fio.Pattern("read"))["requests"], 1)

    def test_what_fio_did_not_do_is_an_error(self):
        nothing = direction(0, 0, 0)
        for text in ("", "fio: pid=1, err=5\n", terse(nothing, nothing),
                     terse(direction(4, 1, 1), nothing, error="84")):
            with self.assertRaises(RuntimeError):
                fio.parse(text, fio.Pattern("read"))

    def test_requests_with_an_alignment_end_with_the_disk(self):
        self.assertIn("--time_based", fio.Pattern("randread").command("/dev/vdb", 3))
        aligned = fio.Pattern("randwrite", align=65536).command("/dev/vdb", 3)
        self.assertIn("--blockalign=65536", aligned)
        self.assertNotIn("--time_based", aligned)


class Sysbench(unittest.TestCase):
    def test_values_are_found_by_their_names(self):
        text = ("    events per second:   512.25\n    total time:   10.0011s\n"
                "         min:    1.50\n         avg:    1.95\n         max:   12.01\n"
                "         95th percentile:   3.10\n")
        found = script_module("sysbench").parse(text, ("events_s", "total_s", "average_ms", "p95_ms"))
        self.assertEqual(found, {"events_s": 512.25, "total_s": 10.0011, "average_ms": 1.95,
                                 "p95_ms": 3.1})

    def test_a_value_that_is_missing_is_an_error(self):
        with self.assertRaises(RuntimeError):
            script_module("sysbench").parse("FATAL: no such test\n", ("events_s",))


class Net(unittest.TestCase):
    ONE = ("[  5]   0.00-3.00   sec   363 MBytes  1015021 Kbits/sec    0            sender\n"
           "[  5]   0.00-4.00   sec   360 MBytes   800000 Kbits/sec                  receiver\n")
    SUM = ONE + "[SUM]   0.00-2.00   sec   100 MBytes   400000 Kbits/sec                  receiver\n"

    def test_what_arrived_counts(self):
        self.assertEqual(script_module("net").parse_iperf(self.ONE), (4, 400e6))

    def test_of_several_streams_the_sum_counts(self):
        self.assertEqual(script_module("net").parse_iperf(self.SUM), (2, 100e6))

    def test_no_byte_is_an_error(self):
        for text in ("", "iperf3: error - unable to connect\n", self.ONE.replace("800000", "0.00")):
            with self.assertRaises(RuntimeError):
                script_module("net").parse_iperf(text)

    def test_turns(self):
        found = script_module("net").parse_turns("turns 500 median 105.50 p99 300.25 us\n")
        self.assertEqual(found, {"median_us": 105.5, "p99_us": 300.25})
        with self.assertRaises(RuntimeError):
            script_module("net").parse_turns("sockets: connect: Connection refused\n")


class Streams(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.streams = script_module("net").Streams(os.path.join(folder.name, "v"), 0.1)
        self.streams.serve()

    def connect(self, port):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(60)
        sock.connect(f"{self.streams.path}_{port}")
        return sock

    def test_an_echo(self):
        sock = self.connect(7)
        sock.sendall(b"x")
        self.assertEqual(sock.recv(10), b"x")

    def test_a_source_counts_until_time_is_up(self):
        sock, received = self.connect(9), 0
        while data := sock.recv(1 << 20):
            received += len(data)
        self.assertGreaterEqual(self.streams.moved[0], 0.1)
        self.assertEqual(self.streams.moved[1], received)

    def test_a_sink_counts_what_a_guest_that_leaves_has_sent(self):
        sock = self.connect(8)
        sock.sendall(bytes(1000))
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(sock.recv(10), b"")
        self.assertEqual(self.streams.moved[1], 1000)


class Cost(unittest.TestCase):
    def test_own_time_goes_up(self):
        before = cost.read(os.getpid())
        sum(range(3000000))
        spent = cost.read(os.getpid()) - before
        self.assertGreater(spent.vmm_s, 0)
        self.assertEqual(spent.guest_s, 0)

    def test_exits_that_nobody_counted_stay_unknown(self):
        one = cost.Cost(1.0, 2.0, 3.0, exits=None, user_exits=None)
        other = cost.Cost(0.5, 1.0, 1.0, exits=4, user_exits=1)
        self.assertEqual(one - other, cost.Cost(0.5, 1.0, 2.0, None, None))


class Jobs(unittest.TestCase):
    def test_a_job_says_when_it_begins_and_ends(self):
        lines = jobs.script("true", "cd /tmp").splitlines()
        self.assertEqual(lines[:2], ["cd /tmp", 'echo "bench: begin"'])
        self.assertEqual(lines[-1], 'echo "bench: done"')

    def test_the_results_keep_the_job(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: os.path.join(folder, name) for name in ("initrd", "made", "job.sh")}
            with open(paths["initrd"], "wb") as f:
                f.write(b"archive")
            scratch = os.path.join(folder, "scratch")
            os.mkdir(scratch)
            guest = types.SimpleNamespace(options={"job": paths["job.sh"]}, initrd=paths["made"])
            part = types.SimpleNamespace(args=types.SimpleNamespace(initrd=paths["initrd"]))
            jobs.prepare(part, types.SimpleNamespace(guest=guest, scratch=scratch), "fio\n")
            for path in (paths["job.sh"], os.path.join(scratch, "job")):
                with open(path, encoding="utf-8") as f:
                    self.assertEqual(f.read(), "fio\n")

    def test_an_archive_is_one_for_cpio(self):
        archive = jobs.cpio_file("job", b"echo 1\n") + jobs.cpio_file(jobs.CPIO_END, b"")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["cpio", "-i", "--quiet"], cwd=folder, input=archive, check=True)
            with open(os.path.join(folder, "job"), encoding="utf-8") as f:
                self.assertEqual(f.read(), "echo 1\n")
