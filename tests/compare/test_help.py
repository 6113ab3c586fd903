# SPDX-License-Identifier: Apache-2.0
"""What the scripts of compare/ say of themselves, and to command lines that make no sense."""

import os
import subprocess
import unittest

from lib.paths import COMPARE

PARTS = ("first-run", "boot-time", "pmap", "sysbench", "disk", "net")
BENCHES = ("block-bench", "img-bench")


def run(script, *arguments):
    return subprocess.run([os.path.join(COMPARE, script), *arguments], capture_output=True,
                          text=True, check=False, timeout=60)


class Help(unittest.TestCase):
    def test_help(self):
        for script in (*PARTS, *BENCHES, "all"):
            with self.subTest(script=script):
                done = run(script, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith(f"usage: compare/{script} ["), done.stdout)
                self.assertEqual(done.stdout.count("usage:"), 1)

    def test_benches_refuse_what_makes_no_sense(self):
        for script in BENCHES:
            for arguments, words in ((["--runs", "0"], "above 0"), (["--only", "("], "expression"),
                                     (["--only", "teapot"], "no case matches teapot"),
                                     (["--nonsense"], "--nonsense")):
                with self.subTest(script=script, arguments=arguments):
                    done = run(script, *arguments)
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertTrue(done.stderr.startswith(f"{script}: "), done.stderr)
                    self.assertIn(words, done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1)

    def test_benches_list_their_cases(self):
        for script in BENCHES:
            done = run(script, "--list", "--only", "zstd")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue(all("zstd" in line for line in done.stdout.splitlines()))
