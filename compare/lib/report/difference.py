# SPDX-License-Identifier: Apache-2.0
"""Compares two runs figure by figure, and tells what is larger than noise."""

import dataclasses
import statistics

from . import figures, ranks
from .figures import ratio_text, text
from .load import differing, twins
from .model import Metric, Part, clean

# Chance alone marks one figure in so many, and only differences of medians beyond TOLERANCE count:
# two runs of the same program on a shared machine are never quite equal.
SURE = 0.01
PERHAPS = 0.1
TOLERANCE = 0.05


@dataclasses.dataclass
class Change:
    """One figure in both runs."""
    part: Part
    metric: Metric
    case: str
    vmm: str
    old: list
    new: list

    @property
    def medians(self):
        return statistics.median(self.old), statistics.median(self.new)

    @property
    def ratio(self):
        old, new = self.medians
        return figures.ratio(new, old)

    @property
    def verdict(self):
        """better, worse or changed; with "?" where that is not sure; nothing for noise."""
        old, new = self.medians
        if abs(new - old) <= TOLERANCE * abs(old):
            return ""
        chance = ranks.chance(self.old, self.new)
        if chance > PERHAPS:
            return ""
        doubt = "" if chance <= SURE else "?"
        if self.metric.better == "none":
            return "changed" + doubt
        return ("better" if (new < old) == (self.metric.better == "lower") else "worse") + doubt


def counterpart(part, run, other_run):
    """The part of `other_run` that stands beside one of `run`; None where that is not clear."""
    found = twins(part, other_run.parts)
    same = [other for other in found if other.settings == part.settings]
    if len(same) == 1:
        return same[0]
    return found[0] if len(found) == 1 == len(twins(part, run.parts)) else None


def pairs(old, new):
    """The parts that both runs have, measured in the same place."""
    for part in old.parts:
        other = counterpart(part, old, new)
        if other:
            yield part, other


def changes_of(old, new):
    for (case, vmm, name), values in old.samples.items():
        others = new.samples.get((case, vmm, name))
        if others:
            yield Change(new, new.metrics[name], case, vmm, list(values.values()),
                         list(others.values()))


def missing(old, new):
    """What only one of the runs has, in words."""
    lines = []
    for name, one, other in (("OLD", old, new), ("NEW", new, old)):
        for part in one.parts:
            twin = counterpart(part, one, other)
            if not twin:
                lines.append(f"only in {name}: {part.title}, {part.where}")
                continue
            alone = {(case, vmm) for case, vmm, _ in part.samples} - {
                (case, vmm) for case, vmm, _ in twin.samples}
            lines += [f"only in {name}: {part.title}: {case}: {vmm}" for case, vmm in sorted(alone)]
    return lines


def warnings(old, new):
    """Why two parts may differ although no program did."""
    lines = []
    for one, other in pairs(old, new):
        machine = differing(one.machine, other.machine)
        if machine:
            lines.append(f"{other.name}, {other.where}: not the same machine: {machine}")
        for key in sorted(one.settings.keys() | other.settings.keys()):
            before, now = one.settings.get(key), other.settings.get(key)
            if before != now:
                lines.append(f"{other.name}, {other.where}: {clean(key)} was {clean(before)}, is "
                             f"{clean(now)}")
    return lines


def drift(changes):
    """By how much the VMMs that are not ours changed, as a factor of time: what the machine did."""
    factors = []
    for change in changes:
        if change.ratio and change.ratio > 0 and not figures.is_ours(change.vmm):
            if change.metric.better == "lower":
                factors.append(change.ratio)
            elif change.metric.better == "higher":
                factors.append(1 / change.ratio)
    return statistics.median(factors) if factors else None


def spread(values):
    return f"{text(min(values))} … {text(max(values))}"


HEADINGS = ["figure", "VMM", "unit", "old median", "new median", "ratio", "old spread",
            "new spread", ""]


def row(change):
    old, new = change.medians
    where = f"{change.part.title}: {change.case}: {change.metric.title}"
    return [where, change.vmm, change.metric.unit, text(old), text(new), ratio_text(change.ratio),
            spread(change.old), spread(change.new), change.verdict]


def compare(old, new):
    """All changes, in the order of the new run's places and parts."""
    return [change for one, other in sorted(pairs(old, new), key=lambda pair: pair[1].where)
            for change in changes_of(one, other)]
