# SPDX-License-Identifier: Apache-2.0
"""compare/all: what it makes of parts, here scripts that measure nothing."""

import contextlib
import io
import os
import tempfile
import unittest
from unittest import mock

from made_runs import script_module


class Display:
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def set(self, *_):
        pass

    def say(self, text):
        self.lines.append(text)


class Parts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="minivmm-compare-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        patch = mock.patch("lib.paths.COMPARE", self.folder)
        self.module = script_module("all")
        patch.start()
        self.addCleanup(patch.stop)

    def write_part(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def all_of(self, *parts):
        everything = self.module.All(parts, [], Display())
        everything.estimates = {part: 1 for part in parts}
        return everything

    def test_tables_of_any_size(self):
        self.write_part("big", "head -c 200000 /dev/zero | tr '\\0' x; echo said >&2; exit 3")
        everything = self.all_of("big")
        self.assertEqual(everything.run_part("big"), 3)
        self.assertEqual(everything.display.lines, ["said", "== big\n" + 200000 * "x"])

    def test_parts_without_such_a_case_are_left_out(self):
        self.write_part("none", "echo 'none: no case matches x; see --list' >&2; exit 2")
        self.write_part("some", "echo 'about 7 s: 7 s'")
        everything = self.all_of("none", "some")
        everything.choose()
        self.assertEqual((everything.parts, everything.estimates), (["some"], {"some": 7.0}))

    def test_no_part_has_such_a_case(self):
        self.write_part("none", "echo 'none: no case matches x; see --list' >&2; exit 2")
        with contextlib.redirect_stderr(io.StringIO()) as said, \
                self.assertRaises(SystemExit) as caught:
            self.all_of("none").choose()
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("no case matches", said.getvalue())

    def test_a_part_that_cannot_list_ends_all(self):
        self.write_part("bad", "echo 'bad: --nonsense' >&2; exit 2")
        with self.assertRaisesRegex(SystemExit, "bad: --nonsense"):
            self.all_of("bad").choose()
