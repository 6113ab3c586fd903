# SPDX-License-Identifier: Apache-2.0
"""Puts a report together: what is in it, and in which order."""

import shlex
import statistics

from lib import sides

from . import charts, figures
from .document import Chart, Heading, Items, Links, Paragraph, Table, Verbatim
from .figures import ratio_text, text
from .model import base_name, clean, file_name

PARTS = ("first-run", "boot-time", "pmap", "sysbench", "disk", "net", "block-bench", "img-bench")
PLACES = {
    "machine": ("On the machine itself", ""),
    "emulated host": ("In the emulated host",
                      "A machine that QEMU emulates, with AMD SVM, because the KVM of the machine "
                      "itself cannot run a stock kernel. Exits are much dearer in it than on "
                      "hardware. Ratios of two VMMs within this section mean something, absolute "
                      "times do not, and nothing here can be compared with another section."),
}
GLANCE = (
    "“Compared” counts the figures that minivmm and another VMM have, and in which one direction "
    "is better; “minivmm is best” those in which no other VMM has a better median. The factor is "
    "the geometric mean of how many times better than the best of the others minivmm is; below 1 "
    "it is worse."
)
HOW_TO_READ = (
    "Each VMM got the same kernel, initrd, root image, memory and processors, and they took turns.",
    "Minimum, median and maximum are of all runs of one case; a whisker in a chart goes from the "
    "minimum to the maximum.",
    "“/ best” is the median divided by that of the best VMM in this case, “/ minivmm” by that of "
    "minivmm with its usual options. So 2.00 means twice as much, which is twice as slow where "
    "lower is better, and twice as fast where higher is better. There is a dash where the divisor "
    "is 0, or where no direction is better.",
    "The host itself, where it is there, ran the same program without a VM. It never counts as the "
    "best VMM.",
)


def place(where):
    return PLACES.get(where, (f"In: {where}", ""))


def place_within(where):
    """For the middle of a sentence."""
    title = place(where)[0]
    return title[0].lower() + title[1:]


def in_words(value):
    """A value of a header; an object as its keys and values."""
    if not isinstance(value, dict):
        return clean(value)
    return ", ".join(f"{clean(key)} {clean(content)}" for key, content in value.items())


def shown_command(argv, files):
    """A command, followed by the files that were made for it."""
    lines = [shlex.join(argv)]
    for name, content in files.items():
        lines += ["", f"{name}:", content]
    return "\n".join(lines)


def shared_files(commands):
    """{case: files that all of several VMMs got}"""
    by_case = {}
    for (case, _), (_, files) in commands.items():
        by_case.setdefault(case, []).append(files)
    return {case: {name: text for name, text in given[0].items()
                   if len(given) > 1 and all(files.get(name) == text for files in given)}
            for case, given in by_case.items()}


def in_order(parts):
    def key(part):
        number = PARTS.index(part.name) if part.name in PARTS else len(PARTS)
        return part.where != "machine", part.where, number, part.title
    return sorted(parts, key=key)


class Content:
    """The blocks of a report, and the charts that gnuplot has to draw for them."""

    def __init__(self, run, title):
        self.run = run
        self.parts = in_order(run.parts)
        self.places = list(dict.fromkeys(part.where for part in self.parts))
        self.groups = {id(part): list(figures.groups_of(part)) for part in self.parts}
        self.blocks = [Heading(1, title)]
        self.drawn = []

    def add(self, *blocks):
        self.blocks += blocks

    def heading(self, level, words):
        number = sum(isinstance(block, Heading) for block in self.blocks)
        self.add(Heading(level, words, f"s{number}"))

    def build(self, raw_files):
        """`raw_files`: (text, relative path) of what is kept beside the report."""
        self.add_summary()
        for where in self.places:
            self.add_place(where)
        self.add_vmms()
        self.add_commands()
        self.add_notes()
        self.heading(2, "Raw results")
        words = "Every sample as it was measured"
        if any(part.timelines for part in self.parts):
            words += ("; and minivmm's own timeline of one start of each case “inside”, which "
                      "Perfetto (ui.perfetto.dev) and chrome://tracing open")
        self.add(Paragraph(words + ":"), Links(raw_files))
        for chart, svg in zip([chart for chart, _ in self.drawn],
                              charts.draw([wanted for _, wanted in self.drawn])):
            chart.svg = svg
        return self.blocks

    def add_summary(self):
        dates = sorted({part.date[:10] for part in self.parts if part.date})
        when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "without a date"
        words = "; ".join(place_within(where) for where in self.places)
        self.add(Paragraph(f"Measured {when}, {words}."))
        missing = [name for name in PARTS if name not in {part.name for part in self.parts}]
        if missing:
            self.add(Paragraph(f"Not in this run: {', '.join(missing)}."))
        self.heading(2, "At a glance")
        rows = [row for part in self.parts for row in [self.glance(part)] if row]
        if rows:
            self.add(Table(["part", "where", "compared", "minivmm is best", "factor"], rows, 2),
                     Paragraph(GLANCE))
        else:
            self.add(Paragraph("No figure has both minivmm and another VMM."))
        self.heading(2, "How to read this")
        self.add(Items(HOW_TO_READ))

    def glance(self, part):
        """How minivmm stands beside the best of the others, or None where they have nothing in
        common."""
        factors = []
        for group in self.groups[id(part)]:
            for case in group.cases:
                factor = figures.ahead(group.of_case(case), group.metric.better)
                factors += [factor] if factor is not None else []
        if not factors:
            return None
        positive = [factor for factor in factors if factor > 0]
        mean = statistics.geometric_mean(positive) if positive else None
        return [part.title, part.where, len(factors), sum(factor >= 1 for factor in factors),
                ratio_text(mean)]

    def add_place(self, where):
        title, words = place(where)
        self.heading(2, title)
        if words:
            self.add(Paragraph(words))
        parts = [part for part in self.parts if part.where == where]
        facts = {}
        for part in parts:
            for key, value in part.machine.items():
                facts.setdefault((clean(key), in_words(value)), []).append(part.title)
        self.add(Table(["machine", "", "parts"],
                       [[*fact, ", ".join(names)] for fact, names in facts.items()], 3))
        for part in parts:
            self.add_part(part)

    def add_part(self, part):
        self.heading(3, part.title)
        words = [part.date] if part.date else []
        words += ["settings: " + in_words(part.settings)] if part.settings else []
        if words:
            self.add(Paragraph("; ".join(words) + "."))
        for group in self.groups[id(part)]:
            self.add_group(group)
        failures = part.lasting_failures()
        if failures:
            self.heading(4, f"{part.title}: what failed")
            for failure in failures:
                self.add(Paragraph(f"{failure.vmm}, {failure.case}:"), Verbatim(failure.message))

    def add_group(self, group):
        metric = group.metric
        only = group.cases[0] if len(group.cases) == 1 else group.name
        words = ": ".join(dict.fromkeys(filter(None, [group.part.title, only, metric.title])))
        unit = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        self.heading(4, words)
        chunks = list(charts.chunks(group))
        for number, rows in enumerate(chunks, 1):
            caption = [f"{words}, in {metric.unit}" if metric.unit else words]
            caption += [f"part {number} of {len(chunks)}"] if len(chunks) > 1 else []
            caption += [figures.better_text(metric.better)]
            name = f"{len(self.drawn) + 1:03}-{file_name(group.part.name)}"
            chart = Chart(name, "; ".join(caption) + ".", "")
            self.drawn.append((chart, (metric, rows, chart.caption)))
            self.add(chart)
        failed = any(figure.failed for figure in group.figures)
        headings = [f"case ({unit})", "VMM", "runs", "min", "median", "max", "/ best", "/ minivmm"]
        rows = [self.row(group, figure) + ([figure.failed or ""] if failed else [])
                for figure in group.figures]
        self.add(Table(headings + (["failed"] if failed else []), rows, 2))

    @staticmethod
    def row(group, figure):
        name = [group.short(figure.case), figure.vmm, len(figure.values)]
        if not figure.values:
            return name + ["–"] * 5
        return name + [text(min(figure.values)), text(figure.median), text(max(figure.values)),
                       ratio_text(figure.to_best), ratio_text(figure.to_ours)]

    def add_vmms(self):
        self.heading(2, "VMMs and versions")
        here = {base_name(name) for part in self.parts for name in part.vmms}
        absent = [name + ("" if module.TRIED else " (not tried: written from documentation)")
                  for name, module in sides.adapters().items() if name not in here]
        if absent:
            self.add(Paragraph(f"There are adapters for more, which were not run: "
                               f"{', '.join(absent)}."))
        seen = {}
        for part in self.parts:
            for name, vmm in part.vmms.items():
                key = (name, vmm["version"], vmm["tried"])
                seen.setdefault(key, []).append(f"{part.title} ({part.where})")
        self.add(Table(["VMM", "version", "adapter", "in"],
                       [[name, version or "–",
                         "tried" if tried else "not tried: written from documentation",
                         ", ".join(dict.fromkeys(where))]
                        for (name, version, tried), where in seen.items()], 4))

    def add_commands(self):
        self.heading(2, "Command lines")
        for part in self.parts:
            if not part.commands:
                continue
            self.heading(3, f"{part.title}, {place_within(part.where)}")
            same, shared = {}, shared_files(part.commands)
            for (case, vmm), (argv, files) in part.commands.items():
                own = {name: text for name, text in files.items() if name not in shared[case]}
                same.setdefault((vmm, shown_command(argv, own)), []).append(case)
            everywhere = {case for case, _ in part.commands}
            for (vmm, command), cases in same.items():
                words = "all cases" if set(cases) == everywhere else ", ".join(cases)
                self.add(Paragraph(f"{vmm} ({words}):"), Verbatim(command))
            for case, files in shared.items():
                for name, content in files.items():
                    self.add(Paragraph(f"{name}, the same for all ({case}):"), Verbatim(content))

    def add_notes(self):
        notes = list(self.run.notes)
        for part in self.parts:
            notes += [f"{part.title} ({part.where}): {note}" for note in part.notes]
        if notes:
            self.heading(2, "Notes, and what was left out")
            self.add(Items([clean(note) for note in notes]))
