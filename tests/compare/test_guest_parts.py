# SPDX-License-Identifier: Apache-2.0
"""compare/disk and compare/sysbench, short and with the host as the only side: no guest is started."""

import os
import subprocess
import tempfile
import unittest

from lib import host
from lib.paths import COMPARE, GUEST

NEEDED = [os.path.join(GUEST, name) for name in ("bench", "vmlinuz", "initramfs-fio.cpio",
                                                 "initramfs-sysbench.cpio")]


@unittest.skipUnless(all(map(os.path.exists, NEEDED)), "needs `scripts/guest-image bench`")
class GuestParts(unittest.TestCase):
    def run_part(self, name, folder, *options):
        # Where it runs does not matter to the host.
        return subprocess.run([os.path.join(COMPARE, name), "--smoke", "--runs", "1", "--vmms", "host",
                               "--out", folder, *options], env={**os.environ, host.INSIDE: "1"},
                              capture_output=True, text=True, check=False, timeout=300)

    def assert_measured(self, name, only, *words):
        """It prints the words; the same command once more measures nothing and prints the same."""
        with tempfile.TemporaryDirectory() as folder:
            first = self.run_part(name, folder, "--only", only)
            self.assertEqual(first.returncode, 0, first.stderr)
            self.assertNotIn("failed", first.stdout)
            for word in words:
                self.assertIn(word, first.stdout)
            results = os.path.join(folder, name + ".jsonl")
            size = os.path.getsize(results)
            self.assertEqual(self.run_part(name, folder, "--only", only).stdout, first.stdout)
            self.assertEqual(os.path.getsize(results), size)

    def test_disk(self):
        self.assert_measured("disk", "fresh: writes|full: verify", "fresh: writes, 4k, depth 32",
                             "median of the latency", "written, read back and right")

    def test_sysbench(self):
        self.assert_measured("sysbench", "mutex|seqwr|rndrd", "mutex, 64 threads",
                             "(latency), seqwr: writes", "(latency), rndrd: reads")

    def test_wrong_arguments_end_with_2(self):
        for arguments in (["--seconds", "x"], ["--nonsense"], ["--vmms", "nobody"],
                          ["--runs", "0"], ["--only", "("], ["--kernel", "/nowhere"]):
            with tempfile.TemporaryDirectory() as folder:
                result = self.run_part("disk", folder, *arguments)
                self.assertEqual(result.returncode, 2, arguments)
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
