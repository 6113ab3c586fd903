# SPDX-License-Identifier: Apache-2.0
"""The rounds of a part: whose turn it is, what happens to failures, stopping and going on."""

import argparse
import contextlib
import io
import os
import tempfile
import types
import unittest
from unittest import mock

from lib import results
from lib.part import Case, Part, metric
from lib.sides import Side


def adapter(name):
    def argv(program, guest, scratch):
        with open(os.path.join(scratch, "config"), "w", encoding="utf-8") as f:
            f.write(f"socket {scratch}/socket\n")
        return [program, "--config", f"{scratch}/config", guest.cmdline]

    return types.SimpleNamespace(NAME=name, PROGRAM="true", TRIED=True, DISK_FORMATS=("raw",),
                                 CMDLINE=f"for={name}", ENDS_BY="reboot", argv=argv)


SIDES = [Side(name, adapter(name), "/bin/true") for name in ("minivmm", "b", "c")]


class Counting(Part):
    """Notes who was measured."""
    name = "counting"
    metrics = (metric("n", "", "lower", "turn"),)
    whole_boots = False

    def __init__(self, out, **settings):
        self.out, self.changes = out, settings
        self.turns, self.stop_at, self.failing, self.options = [], 0, (), {}

    def parse(self):
        return argparse.Namespace(**{
            "vmms": [], "vmm": [], "runs": 3, "out": self.out, "only": "", "kernel": "/bin/true",
            "initrd": "", "memory": 64, "cmdline": "quiet", "retry": False, "list": False,
            "show": False, **self.options})

    def settings(self):
        return self.changes

    def cases(self):
        yield Case("one", self.guest(), self.measure)
        yield Case("two", self.guest(), self.measure, warm_up=False)

    def measure(self, attempt):
        if len(self.turns) + 1 == self.stop_at:
            raise KeyboardInterrupt
        self.turns.append((attempt.case.name, attempt.side.label))
        if attempt.side.label in self.failing:
            raise RuntimeError("does not boot\nmore of it")
        return {"n": len(self.turns)}


class Rounds(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="minivmm-compare-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        patch = mock.patch("lib.sides.find", return_value=SIDES)
        patch.start()
        self.addCleanup(patch.stop)

    def part(self, **settings):
        return Counting(os.path.join(self.folder, "run"), **settings)

    def run_part(self, part):
        """The exit status, and all that was printed."""
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                contextlib.redirect_stderr(out), mock.patch("lib.progress.Display.say") as say:
            self.said = out
            status = part.main()
        return status, out.getvalue() + "".join(call.args[0] for call in say.mock_calls)

    def read(self):
        return results.read(os.path.join(self.folder, "run", "counting.jsonl"))

    def test_each_side_is_first_in_a_round_in_turn(self):
        part = self.part()
        self.assertEqual(self.run_part(part)[0], 0)
        one = [side for case, side in part.turns if case == "one"]
        rounds = [one[i:i + 3] for i in range(0, len(one), 3)]
        self.assertEqual(len(rounds), 4)  # the first is not counted
        self.assertTrue(all(sorted(r) == ["b", "c", "minivmm"] for r in rounds))
        self.assertEqual(sorted(r[0] for r in rounds[1:]), ["b", "c", "minivmm"])
        found = self.read()
        self.assertEqual(len(found.values("one", "b", "n")), 3)
        self.assertEqual(len(found.values("two", "b", "n")), 3)

    def test_a_run_that_was_stopped_goes_on_and_measures_nothing_twice(self):
        part = self.part()
        part.stop_at = 8
        status, said = self.run_part(part)
        self.assertEqual(status, 130)
        self.assertIn("goes on", said)
        before = sum(len(r) for by_vmm in self.read().samples.values() for r in by_vmm.values())
        self.assertEqual(before, 4)  # of 7, three were the first round
        again = self.part()
        self.assertEqual(self.run_part(again)[0], 0)
        counted = sum(len(r) for by_vmm in self.read().samples.values() for r in by_vmm.values())
        self.assertEqual(counted, 18)
        self.assertEqual(len([t for t in again.turns if t[0] == "two"]), 9)
        nothing = self.part()
        self.assertEqual(self.run_part(nothing)[0], 0)
        self.assertEqual(nothing.turns, [])

    def test_a_side_that_fails_does_not_end_the_run(self):
        part = self.part()
        part.failing = ("b",)
        status, said = self.run_part(part)
        self.assertEqual(status, 0)
        self.assertIn("failed: one: b, 2 times: does not boot\n", said)
        found = self.read()
        self.assertEqual(part.turns.count(("one", "b")), 2)  # not three rounds in vain
        self.assertEqual(len(found.values("one", "c", "n")), 3)
        again = self.part()
        self.run_part(again)
        self.assertEqual(again.turns, [])

    def test_what_failed_is_measured_again_when_asked(self):
        part = self.part()
        part.failing = ("b",)
        self.run_part(part)
        again = self.part()
        again.options = {"retry": True}
        self.run_part(again)
        self.assertEqual({side for _, side in again.turns}, {"b"})
        self.assertEqual(len(self.read().values("one", "b", "n")), 3)

    def test_other_settings_are_refused(self):
        self.run_part(self.part(size=1))
        other = self.part(size=2)
        status, said = self.run_part(other)
        self.assertEqual(status, 2)
        self.assertIn("settings: size was 1, is 2", said)
        self.assertEqual(other.turns, [])

    def test_more_runs_are_added_to_those_there(self):
        self.run_part(self.part())
        again = self.part()
        again.options = {"runs": 4}
        self.run_part(again)
        self.assertEqual(len(self.read().values("two", "c", "n")), 4)
        self.assertEqual(len([t for t in again.turns if t[0] == "two"]), 3)

    def test_the_command_is_kept_with_its_files_and_without_the_folder(self):
        self.run_part(self.part())
        command = self.read().commands["one", "b"]
        self.assertEqual(command["argv"], ["/bin/true", "--config", "$SCRATCH/config",
                                           "quiet for=b minivmm.do=reboot"])
        self.assertEqual(command["files"], {"config": "socket $SCRATCH/socket\n"})

    def test_only_chosen_cases_run(self):
        part = self.part()
        part.options = {"only": "^tw"}
        self.run_part(part)
        self.assertEqual({case for case, _ in part.turns}, {"two"})

    def refused(self, **options):
        """What a run with these options says that ends with 2."""
        part = self.part()
        part.options = options
        try:
            status, said = self.run_part(part)
        except SystemExit as end:
            status, said = end.code, self.said.getvalue()
        self.assertEqual((status, part.turns), (2, []))
        return said

    def test_no_such_case(self):
        for more in ({}, {"list": True}):
            said = self.refused(only="three", **more)
            self.assertIn("no case matches three; see --list\n", said)

    def test_nothing_to_show(self):
        folder = os.path.join(self.folder, "run")
        self.assertEqual(self.refused(show=True), f"counting: nothing measured yet in {folder}\n")
        self.assertFalse(os.path.exists(folder))

    def test_programs_that_were_not_built(self):
        with mock.patch.object(Counting, "programs", ("/nowhere/first_kvm_run",)):
            self.assertIn("/nowhere/first_kvm_run: no such file; run `make all tests`\n",
                          self.refused())

    def test_nothing_is_left_behind(self):
        self.run_part(self.part())
        self.assertEqual(os.listdir(os.path.join(self.folder, "run", "scratch")), [])

    def test_two_runs_at_once_are_refused(self):
        part = self.part()
        part.measure = lambda attempt: {"n": self.run_part(self.part())[0]}
        self.run_part(part)
        self.assertEqual(set(self.read().values("one", "b", "n")), {2})
