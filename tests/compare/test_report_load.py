# SPDX-License-Identifier: Apache-2.0
"""What compare/report reads from a run folder, and what it leaves out or refuses."""

import os
import random

from lib.report import figures, load
from lib.results import Refused
from made_runs import (MACHINE, MS, ROOT, RunTestCase, command, encoded, failure, header, sample,
                       samples)

GOOD = [header(), MS, command(["minivmm", "--memory", "256M"], files={"a.json": "{}\n"}),
        *samples([3, 1, 2]), *samples([6, 4], "other"), failure(3, "other", message="ended early")]


class Load(RunTestCase):
    def read(self, data=None, name="run/boot-time.jsonl"):
        """The only part of a run."""
        folder = self.write(name, GOOD if data is None else data)
        run = load.read_run(folder)
        self.assertEqual(len(run.parts), 1)
        return run.parts[0]

    def values(self, part, vmm="minivmm", metric="ms"):
        return list(part.samples[("userspace", vmm, metric)].values())

    def assert_refused(self, folder, *words):
        with self.assertRaises(Refused) as caught:
            load.read_run(folder)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_a_whole_part(self):
        part = self.read()
        self.assertEqual((part.name, part.where), ("boot-time", "machine"))
        self.assertEqual(self.values(part), [3, 1, 2])
        self.assertEqual(self.values(part, "other"), [6, 4])
        self.assertEqual(part.metrics["ms"].better, "lower")
        self.assertEqual(part.commands["userspace", "minivmm"],
                         (["minivmm", "--memory", "256M"], {"a.json": "{}"}))
        self.assertEqual([f.message for f in part.lasting_failures()], ["ended early"])
        self.assertEqual(part.vmms["other"], {"version": "other 2", "tried": False})
        self.assertEqual(part.notes, [])

    def test_a_cut_last_line_is_left_out_and_noted(self):
        part = self.read(encoded(GOOD) + b'{"kind": "sample", "case": "users')
        self.assertEqual(self.values(part), [3, 1, 2])
        self.assertEqual(part.notes, ["the last line is cut short: this part was stopped"])

    def test_damaged_lines_are_left_out_and_noted(self):
        for bad in (b"\0\0\0\0", b"[1, 2]", b"17", b'{"kind": "sample", "case": 3}', b"\xff\xfe{}",
                    b'{"kind": "sample"', b'{"kind": "teapot"}', b"{}", b"[" * 100000):
            with self.subTest(bad=bad[:40]):
                part = self.read(encoded(GOOD[:4]) + bad + b"\n" + encoded(GOOD[4:]))
                self.assertEqual(self.values(part), [3, 1, 2])
                self.assertEqual(len(part.notes), 1)
                self.assertIn("line 5 left out", part.notes[0])

    def test_unknown_keys_do_not_matter(self):
        lines = [line | {"colour": {"deep": [1]}} for line in GOOD]
        self.assertEqual(self.values(self.read(lines)), [3, 1, 2])

    def test_what_is_no_number_is_left_out(self):
        for bad in ("NaN", "Infinity", "true", '"3"', "null", "1" + "0" * 400, "[]", "{}"):
            with self.subTest(bad=bad[:20]):
                line = ('{"kind": "sample", "case": "userspace", "vmm": "minivmm", "round": 9, '
                        f'"values": {{"ms": {bad}, "n": 5}}}}\n').encode()
                part = self.read(encoded(GOOD) + line)
                self.assertEqual(self.values(part), [3, 1, 2])
                self.assertEqual(self.values(part, metric="n"), [5])
                self.assertEqual(len(part.notes), 1)

    def test_a_round_that_was_measured_after_all_did_not_fail(self):
        part = self.read([*GOOD, sample(3, 5, "other")])
        self.assertEqual(part.lasting_failures(), [])

    def test_a_variant_follows_what_it_varies_and_has_its_version(self):
        part = self.read([*GOOD, *samples([1], "minivmm, KASLR off")])
        self.assertEqual(part.vmm_order(), ["minivmm", "minivmm, KASLR off", "other"])
        self.assertEqual(part.vmms["minivmm, KASLR off"]["version"], "minivmm 1")

    def test_a_vmm_that_joined_later(self):
        joined = {"kind": "vmms", "vmms": {"third": {"version": "3", "tried": True}}}
        part = self.read([*GOOD, joined, *samples([1], "third")])
        self.assertEqual(part.vmm_order(), ["minivmm", "other", "third"])
        self.assertEqual(part.vmms["third"], {"version": "3", "tried": True})

    def timeline(self, events):
        """What a part makes of them: its timelines and its notes."""
        part = self.read([*GOOD, {"kind": "timeline", "case": "inside", "vmm": "minivmm",
                                  "events": events}])
        return part.timelines, part.notes

    def test_a_timeline(self):
        events = [{"ph": "M", "name": "thread_name", "tid": 1, "args": {"name": "main"}},
                  {"ph": "X", "name": "load the guest", "ts": 10.5, "dur": 3}]
        self.assertEqual(self.timeline(events), ({("inside", "minivmm"): events}, []))

    def test_a_timeline_of_anything(self):
        deep = {"args": {"args": {"args": {}}, "a": "\x1b[1m", "b": [1]}, "c": {"d": 1}, "e": None}
        self.assertEqual(self.timeline([deep])[0]["inside", "minivmm"],
                         [{"args": {"a": "\ufffd[1m"}}])
        for bad in (None, "x", {"a": 1}, [1], [[]]):
            timelines, notes = self.timeline(bad)
            self.assertEqual(timelines, {})
            self.assertIn("left out: no events", notes[0])

    def test_control_characters_and_lone_surrogates_become_harmless(self):
        name = "a\x1b[31m\u202e\ud800\nb"
        part = self.read([header(), MS, *samples([1], name)])
        self.assertIn("a\ufffd[31m\ufffd\ufffd b", part.vmms)

    def test_no_metric_line(self):
        part = self.read([line for line in GOOD if line is not MS])
        self.assertEqual((part.metrics["ms"].title, part.metrics["ms"].better), ("ms", "none"))

    def test_names_of_files_in_this_tree_are_relative(self):
        part = self.read([*GOOD, command([os.path.join(ROOT, "minivmm")], case="x")])
        self.assertEqual(part.commands["x", "minivmm"][0], ["minivmm"])

    def test_a_file_of_a_part_that_has_just_begun_is_ignored(self):
        self.write("run/pmap.jsonl", b"")
        self.assertEqual(self.read().name, "boot-time")

    def test_a_file_without_a_whole_header_is_left_out_and_noted(self):
        for data in (encoded(GOOD)[:20], encoded(GOOD[1:]), b"\n\n", b"\0" * 512,
                     encoded([header() | {"where": None}])):
            with self.subTest(data=data[:20]):
                self.write("run/boot-time.jsonl", GOOD)
                self.write("run/pmap.jsonl", data)
                run = load.read_run(self.path("run"))
                self.assertEqual([part.name for part in run.parts], ["boot-time"])
                self.assertIn("pmap.jsonl: left out", run.notes[0])

    def test_no_results(self):
        self.assert_refused(self.path("none"), "no such folder")
        self.assert_refused(self.write("run/a.jsonl", b"{"), "no results", "a.jsonl")
        self.assert_refused(self.write("empty/note.txt", b"{"), "no results")

    def test_an_other_format_is_refused(self):
        folder = self.write("run/boot-time.jsonl", [header(format=2), *GOOD[1:]])
        self.assert_refused(folder, "format 2", "boot-time.jsonl")

    def test_two_runs_in_a_file_are_refused(self):
        self.assert_refused(self.write("run/boot-time.jsonl", GOOD + GOOD), "two runs")

    def test_two_runs_of_a_part_with_the_same_settings_are_refused(self):
        self.write("run/boot-time.jsonl", GOOD)
        self.assert_refused(self.write("run/again.jsonl", GOOD), "again.jsonl",
                            "runs of boot-time with the same settings")

    def titles(self, *settings):
        for number, each in enumerate(settings):
            folder = self.write(f"run/{number}.jsonl", [header(settings=each), *GOOD[1:]])
        return [part.title for part in load.read_run(folder).parts]

    def test_runs_of_a_part_are_told_apart_by_a_setting(self):
        self.assertEqual(self.titles({"initrd": "a 1", "kernel": "vmlinuz 1", "memory_mib": 256},
                                     {"initrd": "b 2", "kernel": "vmlinuz-13 2",
                                      "memory_mib": 256}),
                         ["boot-time, kernel vmlinuz", "boot-time, kernel vmlinuz-13"])

    def test_files_of_the_same_name_are_told_apart_by_their_checksums(self):
        self.assertEqual(self.titles({"kernel": "vmlinuz 1"}, {"kernel": "vmlinuz 2"}),
                         ["boot-time, kernel vmlinuz 1", "boot-time, kernel vmlinuz 2"])

    def test_runs_without_a_setting_say_so(self):
        for without in ({"disk": ""}, {}):
            with self.subTest(settings=without):
                self.assertEqual(self.titles(without, {"disk": "d.qcow2 1"}),
                                 ["boot-time, disk none", "boot-time, disk d.qcow2"])

    def test_runs_that_no_single_setting_tells_apart_have_all_of_them(self):
        self.assertEqual(self.titles({"kernel": "a", "memory_mib": 256},
                                     {"kernel": "a", "memory_mib": 512},
                                     {"kernel": "b", "memory_mib": 256}),
                         ["boot-time, kernel a, memory_mib 256",
                          "boot-time, kernel a, memory_mib 512",
                          "boot-time, kernel b, memory_mib 256"])

    def test_results_of_two_machines_are_refused(self):
        other = MACHINE | {"cpus": 8}
        for where in ("machine", "emulated host"):
            with self.subTest(where=where):
                self.write("run/boot-time.jsonl", GOOD)
                folder = self.write("run/pmap.jsonl", [header("pmap", where=where, machine=other),
                                                       *GOOD[1:]])
                self.assert_refused(folder, "two machines", "cpus 2 and 8")

    def test_hosts_of_two_sizes_emulated_by_a_machine_are_fine(self):
        self.write("run/first-run.jsonl", [header("first-run"), *GOOD[1:]])
        for part, memory in (("boot-time", 2048), ("pmap", 4096)):
            emulated = MACHINE | {"emulated": {"memory_mib": memory}}
            self.write(f"run/{part}.jsonl",
                       [header(part, where="emulated host", machine=emulated), *GOOD[1:]])
        self.assertEqual(len(load.read_run(self.path("run")).parts), 3)

    def try_to_read(self, data):
        """Whatever a file has: it is read or refused."""
        folder = self.write("run/boot-time.jsonl", data)
        try:
            for part in load.read_run(folder).parts:
                list(figures.groups_of(part))
        except Refused:
            pass

    def test_a_run_that_was_stopped_anywhere(self):
        data = encoded(GOOD)
        for length in range(1, len(data)):
            self.try_to_read(data[:length])

    def test_random_damage(self):
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"SEED={seed}")
        rng, data = random.Random(seed), encoded(GOOD)
        for _ in range(1500):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:0-eE\\\n\0x\xff9')
            self.try_to_read(bytes(damaged))


class Beside(RunTestCase):
    """What block-bench and img-bench write."""

    BLOCK = (b'{"what": "block", "machine": {"cpus": 2}, "results": [{"name": "read 4k", '
             b'"args": ["-c", "9"], "rates": {"qemu native": [1, 2], "minivmm": [3, 4]}}]}')

    def test_rates_of_block_bench(self):
        part, = load.read_run(self.write("run/block.json", self.BLOCK)).parts
        self.assertEqual((part.name, part.where), ("block-bench", "machine"))
        self.assertEqual(part.metrics["rate"].better, "higher")
        self.assertEqual(list(part.samples["read 4k", "minivmm", "rate"].values()), [3, 4])
        for side, program in (("qemu native", "qemu-img"), ("minivmm", "minivmm-img")):
            self.assertEqual(part.commands["read 4k", side][0], [program, "bench", "-c", "9"])

    def test_times_of_img_bench(self):
        data = (b'{"what": "img", "results": [{"name": "c", "args": "convert a b", "measured": '
                b'{"qemu": [[4, 5], [6, 7]], "minivmm": [[1, 2], [3, 4]]}}]}')
        part, = load.read_run(self.write("run/img.json", data)).parts
        self.assertEqual(list(part.samples["c", "qemu", "seconds"].values()), [4, 5])
        self.assertEqual(list(part.samples["c", "minivmm", "cpu"].values()), [3, 4])
        self.assertEqual(part.commands["c", "minivmm"][0], ["minivmm-img", "convert", "a", "b"])

    def test_results_that_are_not_understood_are_left_out_and_noted(self):
        for bad in (b"7", b"{}", b'{"name": "x", "rates": {"a": 4}}',
                    b'{"name": "x", "rates": {"a": [null]}}'):
            data = self.BLOCK.replace(b'"results": [', b'"results": [' + bad + b", ")
            part, = load.read_run(self.write("run/block.json", data)).parts
            self.assertEqual(list(part.samples), [("read 4k", "qemu native", "rate"),
                                                  ("read 4k", "minivmm", "rate")])
            self.assertIn("result 0 left out", part.notes[0])

    def test_other_json_is_ignored_and_half_of_one_noted(self):
        self.write("run/block.json", self.BLOCK)
        self.write("run/other.json", b'{"what": "teapot"}')
        self.write("run/list.json", b"[]")
        self.write("run/img.json", self.BLOCK[:50])
        run = load.read_run(self.path("run"))
        self.assertEqual(len(run.parts), 1)
        self.assertEqual(run.notes, ["img.json: left out: no whole JSON"])
