# SPDX-License-Identifier: Apache-2.0
"""The matrix of compare/block-bench: what is in it, and what remains of a run that is stopped."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from lib.paths import COMPARE, MINIVMM

BENCH = os.path.join(COMPARE, "block-bench")
# Rows that need no large image and no direct I/O.
ROWS = "^write fresh 64k random, depth .*cached"
NUMBER = 8


class Matrix(unittest.TestCase):
    def test_every_combination_is_listed(self):
        done = subprocess.run([BENCH, "--matrix", "--list"], capture_output=True, text=True,
                              check=True, timeout=60)
        names = {line.split(": ")[0] for line in done.stdout.splitlines()}
        self.assertEqual(len(names), 7 * 2 * 2 * 4 * 2 * 2)

    def test_refuses_no_time(self):
        done = subprocess.run([BENCH, "--matrix", "--seconds", "0"], capture_output=True, text=True,
                              check=False, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (2, ""))


@unittest.skipUnless(shutil.which("qemu-img") and os.path.exists(MINIVMM + "-img"),
                     "needs qemu-img and minivmm-img")
class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.json = os.path.join(folder.name, "results.json")
        self.images = os.path.join(folder.name, "images")

    def start(self, *more):
        return subprocess.Popen([BENCH, "--matrix", "--runs", "1", "--only", ROWS, "--seconds",
                                 "0.01", "--json", self.json, "--dir", self.images, *more],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def results(self):
        with open(self.json, encoding="utf-8") as f:
            return json.load(f)

    def test_whole_run_has_all_rows_and_a_summary(self):
        with self.start() as process:
            out, _ = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(self.results()["results"]), NUMBER)
        self.assertRegex(out, rf"\nwrite fresh, cached, threads +{NUMBER // 2} ")
        self.assertRegex(out, rf"\nall +{NUMBER} ")
        self.assertFalse(os.path.exists(self.images))

    def test_run_that_is_stopped_keeps_what_it_measured(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number), self.start() as process:
                # A row ends with a line on stderr, and the file has it soon after.
                for _ in range(2):
                    process.stderr.readline()
                process.send_signal(number)
                out, err = process.communicate(timeout=100)
                self.assertEqual(process.returncode, 1)
                self.assertIn("interrupted after", err)
                data = self.results()
                self.assertEqual(data["planned"], NUMBER)
                self.assertTrue(1 <= len(data["results"]) < NUMBER)
                self.assertRegex(out, rf"\nall +{len(data['results'])} ")
                self.assertFalse(os.path.exists(self.images))
