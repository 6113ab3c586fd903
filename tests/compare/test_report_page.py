# SPDX-License-Identifier: Apache-2.0
"""The written report: complete, safe whatever the names are, and in need of nothing else."""

import csv
import html.parser
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET

from made_runs import (MACHINE, MS, RATE, ROOT, RunTestCase, command, failure, header,
                       needs_gnuplot, samples)

EVIL = ["<script>alert(1)</script>", "a|b`c`*d*[e](f)", "'; system(\"touch evil\"); '",
        "`touch evil`", "@x $y %d {/Bold z}_1^2", "\"quoted\" & <b>", "x" * 200, "é…中文", "#!\\n"]
VOID = {"meta", "rect", "path", "polygon", "br"}


class Page(html.parser.HTMLParser):
    """Checks that elements are nested, and collects what there is."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.texts = [], [], set(), [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids.add(attrs.get("id"))
        if tag == "a":
            self.links.append(attrs["href"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append((tuple(self.open), data))

    def all_in(self, tag):
        return [text for where, text in self.texts if where and where[-1] == tag]


@needs_gnuplot
class Report(RunTestCase):
    def make(self, folder):
        """Writes the report of a folder; returns the page and the Markdown text."""
        done = self.report("--out", self.path("out"), folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(self.path("out", "report.html"), encoding="utf-8") as f:
            page = f.read()
        with open(self.path("out", "report.md"), encoding="utf-8") as f:
            return page, f.read()

    def small_run(self):
        emulated = MACHINE | {"emulated": {"cpu": "QEMU", "cpus": 1}}
        self.write("run/boot-time.jsonl", [
            header(where="emulated host", machine=emulated), MS,
            command(["minivmm", "--append", "a b"]),
            *samples([3, 1, 2]), *samples([7, 8, 9], "other"),
            *samples([3, 2, 2], case="cold/1 CPU"), *samples([9], "other", case="cold/1 CPU"),
            failure(2, "other", case="cold/1 CPU", message="ended early\n<oops>")])
        self.write("run/first-run.jsonl", [header("first-run"), RATE,
                                           *samples([41, 42, 43], metric="rate"),
                                           *samples([21], "other", metric="rate")])
        return self.path("run")

    def test_tables_have_what_was_measured(self):
        page, markdown = self.make(self.small_run())
        for text in ("minivmm 1", "other 2", "not tried", "a processor", "2026-11-29",
                     "minivmm --append &#x27;a b&#x27;", "ended early", "&lt;oops&gt;",
                     "cpu QEMU, cpus 1", "Not in this run: pmap, sysbench, disk, net, block-bench, img-bench."):
            self.assertIn(text, page)
        self.assertIn("| userspace | minivmm | 3 | 1 | 2 | 3 | 1.00 | 1.00 |", markdown)
        self.assertIn("| userspace | other | 3 | 7 | 8 | 9 | 4.00 | 4.00 |", markdown)
        self.assertIn("| boot-time | emulated host | 2 | 2 | 4.24 |", markdown)

    def test_places_have_sections_of_their_own(self):
        _, markdown = self.make(self.small_run())
        sections = {part.split("\n")[0]: part for part in re.split(r"\n## <a.*?</a>", markdown)}
        self.assertIn("first-run", sections["On the machine itself"])
        self.assertNotIn("boot-time", sections["On the machine itself"])
        self.assertIn("boot-time", sections["In the emulated host"])
        self.assertNotIn("first-run", sections["In the emulated host"])
        self.assertIn("absolute times do not", sections["In the emulated host"])

    def test_each_chart_says_its_unit_and_what_is_better(self):
        page, _ = self.make(self.small_run())
        captions = Page(page).all_in("figcaption")
        self.assertEqual(captions, [
            "first-run: userspace: events, in 1/s; higher is better.",
            "boot-time: exec to there, in ms; lower is better."])

    def test_the_page_needs_nothing_else(self):
        page, _ = self.make(self.small_run())
        addresses = set(re.findall(r"https?://[^\"' <]*", page))
        self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})
        parsed = Page(page)
        for tag, attrs in parsed.tags:
            self.assertNotIn(tag, {"script", "img", "link", "iframe", "object", "use"})
            self.assertFalse({"src", "onload", "xlink:href"} & attrs.keys())
        self.assertEqual(sum(tag == "svg" for tag, _ in parsed.tags), 2)
        self.assertIn("prefers-color-scheme: dark", page)
        self.assertIn("@media print", page)

    def test_links_lead_somewhere(self):
        page, markdown = self.make(self.small_run())
        parsed = Page(page)
        for link in parsed.links + re.findall(r"\]\(([^)]+)\)", markdown):
            if link.startswith("#"):
                self.assertIn(link[1:], parsed.ids)
                self.assertIn(f'<a id="{link[1:]}">', markdown)
            else:
                self.assertTrue(os.path.isfile(self.path("out", link)), link)
        headings = [t for tag in ("h2", "h3", "h4") for t in parsed.all_in(tag)]
        self.assertEqual(sum(link.startswith("#") for link in parsed.links), len(headings))

    def test_charts_take_the_colours_around_them(self):
        self.make(self.small_run())
        names = os.listdir(self.path("out", "charts"))
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertLess(os.path.getsize(self.path("out", "charts", name)), 16384)
            root = ET.parse(self.path("out", "charts", name)).getroot()
            values = {value for element in root.iter() for value in element.attrib.values()}
            self.assertIn("currentColor", values)
            self.assertFalse({"black", "white", "rgb(0, 0, 0)"} & values)
            texts = {element.text for element in root.iter() if element.tag.endswith("}text")}
            self.assertLessEqual({"minivmm", "divided by the best VMM’s median"}, texts)

    def test_raw_results_are_kept(self):
        folder = self.small_run()
        self.make(folder)
        with open(self.path("run/first-run.jsonl"), "rb") as one, \
                open(self.path("out/raw/first-run.jsonl"), "rb") as other:
            self.assertEqual(one.read(), other.read())
        with open(self.path("out/raw/first-run.jsonl.csv"), encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual([row["value"] for row in rows if row["vmm"] == "minivmm"],
                         ["41.0", "42.0", "43.0"])
        with open(self.path("out/raw/figures.json"), encoding="utf-8") as f:
            found = {part["part"]: part["figures"] for part in json.load(f)}
        self.assertEqual(found["first-run"][1]["ratio_to_best"], 0.5)
        # The report can be made again from what is kept.
        shutil.rmtree(folder)
        page, _ = self.make(self.path("out", "raw"))
        self.assertIn("first-run", page)

    def test_timelines_are_files_for_a_viewer(self):
        events = [{"ph": "X", "name": "load the guest", "ts": 10.5, "dur": 3}]
        self.small_run()
        for name, more in (("a", ["minivmm", "minivmm, KASLR off", "../b"]), ("c", ["minivmm"])):
            self.write(f"run/{name}.jsonl", [header(name), MS, *samples([1]), *(
                {"kind": "timeline", "case": "inside, 1 cpu", "vmm": vmm, "events": events}
                for vmm in more)])
        self.write("out/raw/timeline-9-of-an-older-report.json", b"{}")
        page, markdown = self.make(self.path("run"))
        names = sorted(n for n in os.listdir(self.path("out/raw")) if n.startswith("timeline"))
        self.assertEqual(names, ["timeline-1-inside-1-cpu-minivmm.json",
                                 "timeline-2-inside-1-cpu-minivmm-kaslr-off.json",
                                 "timeline-3-inside-1-cpu-b.json",
                                 "timeline-4-inside-1-cpu-minivmm.json"])
        for name in names:
            with open(self.path("out/raw", name), encoding="utf-8") as f:
                self.assertEqual(json.load(f), {"traceEvents": events})
            self.assertIn("raw/" + name, Page(page).links)
        self.assertIn("Perfetto", markdown)
        # They are no results when the report is made again.
        self.make(self.path("out", "raw"))

    def test_a_file_that_all_vmms_got_is_shown_once(self):
        self.write("run/disk.jsonl", [header("disk"), RATE, *samples([1], metric="rate"), *(
            command([vmm, "--kernel"], vmm, case, {"job": f"fio for {case}", "own": vmm})
            for case in ("reads", "writes") for vmm in ("minivmm", "other"))])
        page, markdown = self.make(self.path("run"))
        for case in ("reads", "writes"):
            self.assertEqual(markdown.count(f"fio for {case}"), 1)
            self.assertIn(f"job, the same for all ({case}):", page)
        self.assertIn("other --kernel\n\nown:\nother\n", markdown)

    def test_an_older_report_is_replaced(self):
        self.make(self.small_run())
        self.write("out/charts/my own.svg", b"")
        os.unlink(self.path("run", "boot-time.jsonl"))
        self.make(self.path("run"))
        self.assertEqual(sorted(os.listdir(self.path("out", "charts"))),
                         ["001-first-run.svg", "my own.svg"])

    def test_names_are_never_markup(self):
        names = {name: name for name in EVIL}
        vmms = {name: {"version": name} for name in EVIL}
        lines = [header("<i>part", vmms=vmms, settings=names),
                 MS | {"title": EVIL[0], "unit": EVIL[1]}]
        for case in EVIL:
            for vmm in EVIL:
                lines += [*samples([1, 2], vmm, case), command([vmm, case], vmm, case)]
        lines += [failure(1, name, name, "```\n" + name) for name in EVIL]
        page, markdown = self.make(self.write("run/a.jsonl", lines))
        tags = {tag for tag, _ in Page(page).tags}
        self.assertFalse({"script", "i", "b"} & tags)
        self.assertNotIn("<script", re.sub(r"```+\n.*?\n```+", "", markdown, flags=re.S))
        self.assertNotIn("](f)", re.sub(r"\\.", "", re.sub(r"```+\n.*?\n```+", "", markdown,
                                                           flags=re.S)))
        self.assertFalse(os.path.exists(self.path("evil")))
        for name in os.listdir(self.path("out", "charts")):
            self.assertRegex(name, r"^\d{3}-i-part\.svg$")
            ET.parse(self.path("out", "charts", name))

    def test_odd_figures_can_be_drawn(self):
        lines = [header(), MS]
        for number, values in enumerate(([0], [0, 0], [-3, 5], [1e-9], [1e15, 1e-15], [1e300, 3])):
            lines += [*samples(values, case=f"c/{number}"),
                      *samples([7], "other", case=f"c/{number}")]
            lines += samples(values, case=f"alone {number}")
        page, _ = self.make(self.write("run/a.jsonl", lines))
        Page(page)

    def test_many_cases_go_into_several_charts(self):
        lines = [header(), MS]
        for number in range(30):
            lines += [*samples([1], case=f"c/{number}"), *samples([2], "other", case=f"c/{number}")]
        page, _ = self.make(self.write("run/a.jsonl", lines))
        captions = Page(page).all_in("figcaption")
        self.assertEqual(len(captions), 3)
        self.assertIn("part 3 of 3", captions[2])

    def test_a_recorded_run(self):
        page, markdown = self.make(os.path.join(ROOT, "tests", "compare", "recorded"))
        self.assertEqual(Page(page).all_in("figcaption"), [
            "first-run: kernel entry: exec to the first KVM_RUN, in ms; lower is better."])
        self.assertRegex(markdown, r"\| 1024 MiB \| qemu-microvm \| 5 \| .* \| 3\.29 \| 3\.29 \|")
        self.assertRegex(markdown, r"\| 65536 MiB \| qemu-microvm \| 0 \| – .*\| 2 \|")
        self.assertIn("Cannot allocate memory", page)

    def test_a_part_where_everything_failed(self):
        folder = self.write("run/a.jsonl", [header(), MS, failure(1), failure(1, "other")])
        page, _ = self.make(folder)
        self.assertIn("no marker", page)


class WithoutGnuplot(RunTestCase):
    def test_what_to_install_is_said_and_nothing_is_written(self):
        folder = self.write("run/a.jsonl", [header(), MS, *samples([1])])
        done = self.report("--out", self.path("out"), folder, PATH=self.scratch)
        self.assertEqual(done.returncode, 2)
        self.assertIn("gnuplot-nox", done.stderr)
        self.assertFalse(os.path.exists(self.path("out")))
