# SPDX-License-Identifier: Apache-2.0
"""Minimum, median, maximum and ratios of what was measured, in the order in which it is shown."""

import collections
import dataclasses
import re
import statistics

from lib.sides import OURS

from .model import Metric, Part, base_name

# No VMM: it is shown beside them, and never the best of them.
HOST = "host"


@dataclasses.dataclass
class Figure:
    """A metric of one VMM in one case."""
    case: str
    vmm: str
    values: list
    failed: int = 0
    # Of the median, to the best VMM's and to minivmm's; None where that cannot be divided by.
    to_best: float | None = None
    to_ours: float | None = None

    @property
    def median(self):
        return statistics.median(self.values)


@dataclasses.dataclass
class Group:
    """The cases of a part whose names begin alike, up to a comma, colon or slash, of one metric."""
    part: Part
    metric: Metric
    name: str
    figures: list

    @property
    def cases(self):
        return list(dict.fromkeys(figure.case for figure in self.figures))

    def of_case(self, case):
        return [figure for figure in self.figures if figure.case == case]

    def short(self, case):
        """The case's name within the group."""
        return case[len(self.name):].lstrip("/,: ") or case


def beginning(case):
    return re.split("/|, |: ", case, maxsplit=1)[0]


def group_names(cases):
    """{case: name of its group}; those that begin like no other are in a group without a name."""
    count = collections.Counter(map(beginning, cases))
    return {case: beginning(case) if count[beginning(case)] > 1 else "" for case in cases}


def best_of(figures, better):
    """The median of the best VMM, or None."""
    medians = [f.median for f in figures if f.values and f.vmm != HOST]
    if not medians or better == "none":
        return None
    return min(medians) if better == "lower" else max(medians)


def ratio(value, base):
    return value / base if base else None


def add_ratios(figures, better):
    best = best_of(figures, better)
    ours = next((f.median for f in figures if f.vmm == OURS and f.values), None)
    for figure in figures:
        if figure.values:
            figure.to_best = ratio(figure.median, best)
            figure.to_ours = ratio(figure.median, ours)


def groups_of(part):
    """All groups of a part: metric after metric within a name, cases and VMMs in their order."""
    failures = part.lasting_failures()
    cases = list(dict.fromkeys([case for case, _, _ in part.samples] +
                               [failure.case for failure in failures]))
    failed = collections.Counter((failure.case, failure.vmm) for failure in failures)
    names = group_names(cases)
    for name in dict.fromkeys(names.values()):
        for metric in part.metrics.values():
            figures = []
            for case in cases:
                if names[case] == name:
                    figures += figures_of(part, metric, case, failed)
            if figures:
                yield Group(part, metric, name, figures)


def figures_of(part, metric, case, failed):
    """One case: those with values, and those that failed if the metric has values at all."""
    figures = []
    for vmm in part.vmm_order():
        values = part.samples.get((case, vmm, metric.name), {})
        if values or (case, vmm) in failed:
            figures.append(Figure(case, vmm, list(values.values()), failed[case, vmm]))
    if not any(figure.values for figure in figures):
        return []
    add_ratios(figures, metric.better)
    return figures


def text(value):
    """Four digits that count."""
    if value is None:
        return "–"
    if value == 0 or 1000 <= abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.4g}"


def ratio_text(value):
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) < 100 else text(value)


def better_text(better):
    return {"lower": "lower is better", "higher": "higher is better"}.get(better,
                                                                          "neither is better")


def is_ours(vmm):
    """minivmm, also with other options than usual, and its image tool."""
    return base_name(vmm).split(" ", 1)[0] in (OURS, OURS + "-img")


def ahead(case_figures, better):
    """
    How many times better than the best of the others minivmm is in a case; None where there is
    nothing to compare.
    """
    ours = next((f.median for f in case_figures if f.vmm == OURS and f.values), None)
    best = best_of([f for f in case_figures if not is_ours(f.vmm)], better)
    if ours is None or best is None or ours < 0 or best < 0:
        return None
    if better == "lower":
        ours, best = best, ours
    return ours / best if best else 1.0 if ours == best else None
