# SPDX-License-Identifier: Apache-2.0
"""The store of results: what is on disk can be gone on with, and nothing else."""

import json
import os
import tempfile
import unittest

from lib import results
from lib.part import metric

HEADER = {"kind": "header", "part": "p", "format": 1, "where": "machine", "machine": {"cpus": 2},
          "date": "2026-11-01", "settings": {"memory_mib": 256},
          "vmms": {"minivmm": {"sha256": "1"}}}
MS = metric("ms", "ms", "lower", "time")


def sample(number, value, vmm="minivmm"):
    return {"kind": "sample", "case": "c", "vmm": vmm, "round": number, "values": {"ms": value}}


class Store(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="minivmm-compare-")
        self.addCleanup(folder.cleanup)
        self.store = None
        self.addCleanup(lambda: self.store.close())
        self.path = os.path.join(folder.name, "run", "p.jsonl")

    def open(self, **changes):
        if self.store:
            self.store.close()
        self.store = results.Store(self.path, {**HEADER, **changes}, [MS])
        return self.store

    def assert_refused(self, *words, **changes):
        with self.assertRaises(results.Refused) as caught:
            self.open(**changes)
        for word in (self.path, *words):
            self.assertIn(word, str(caught.exception))

    def test_what_was_measured_is_there_when_it_is_opened_again(self):
        self.open().append(sample(1, 3.5))
        again = self.open(date="2026-12-24").results
        self.assertTrue(again.measured("c", "minivmm", 1))
        self.assertFalse(again.measured("c", "minivmm", 2))
        self.assertEqual(again.values("c", "minivmm", "ms"), [3.5])
        self.assertEqual(again.header["date"], "2026-11-01")

    def test_header_and_metrics_are_written_once(self):
        for number in (1, 2, 3):
            self.open().append(sample(number, 1))
        with open(self.path, encoding="utf-8") as f:
            kinds = [json.loads(line)["kind"] for line in f]
        self.assertEqual(kinds, ["header", "metric", "sample", "sample", "sample"])

    def test_a_line_that_was_cut_off_goes(self):
        self.open().append(sample(1, 1))
        with open(self.path, "ab") as f:
            f.write(b'{"kind": "sample", "case"')
        store = self.open()
        store.append(sample(2, 2))
        self.assertEqual(results.read(self.path).values("c", "minivmm", "ms"), [1, 2])

    def test_a_header_that_was_cut_off_is_written_again(self):
        os.makedirs(os.path.dirname(self.path))
        with open(self.path, "wb") as f:
            f.write(b'{"kind": "hea')
        self.open().append(sample(1, 1))
        self.assertEqual(results.read(self.path).values("c", "minivmm", "ms"), [1])

    def test_damage_is_refused(self):
        self.open().append(sample(1, 1))
        with open(self.path, "ab") as f:
            f.write(b"\0\0\0\n")
        self.assert_refused("line 4")

    def test_other_conditions_are_refused_by_name(self):
        self.open()
        self.assert_refused("where", "machine", "emulated host", where="emulated host")
        self.assert_refused("machine", "cpus", "4", machine={"cpus": 4})
        self.assert_refused("settings", "memory_mib", "512", settings={"memory_mib": 512})
        self.assert_refused("the program of minivmm is another one: its sha256 was 1, is 2",
                            vmms={"minivmm": {"sha256": "2"}})

    def test_vmms_join_a_run_and_may_be_left_out(self):
        self.open().append(sample(1, 1))
        both = {**HEADER["vmms"], "qemu": {"sha256": "3"}}
        for _ in range(2):
            self.assertEqual(self.open(vmms=both).results.header["vmms"], both)
        self.open(vmms={"qemu": both["qemu"]}).append(sample(1, 5, "qemu"))
        self.assertEqual(self.open().results.header["vmms"], both)
        self.assert_refused("the program of qemu is another one", vmms={"qemu": {"sha256": "4"}})
        found = results.read(self.path)
        self.assertEqual((list(found.header["vmms"]), found.values("c", "qemu", "ms")),
                         (["minivmm", "qemu"], [5]))
        with open(self.path, encoding="utf-8") as f:
            self.assertEqual([json.loads(line)["kind"] for line in f],
                             ["header", "metric", "sample", "vmms", "sample"])

    def test_a_failure_counts_until_it_is_measured_after_all(self):
        store = self.open()
        store.append({"kind": "failure", "case": "c", "vmm": "minivmm", "round": 1, "message": "x"})
        self.assertEqual(store.results.failed("c", "minivmm"), 1)
        store.append(sample(1, 1))
        self.assertEqual(store.results.failed("c", "minivmm"), 0)

    def test_a_folder_is_read_by_parts(self):
        self.open().append(sample(1, 1))
        with open(os.path.join(os.path.dirname(self.path), "empty.jsonl"), "wb"):
            pass
        self.assertEqual(list(results.read_folder(os.path.dirname(self.path))), ["p"])
