# SPDX-License-Identifier: Apache-2.0
"""What was measured, as the report sees it, and how names and numbers of a file become safe."""

import dataclasses
import json
import math
import re

from lib.paths import ROOT

BETTER = ("lower", "higher", "none")


def base_name(vmm):
    """Of a VMM with other options than usual, "NAME, how", the name."""
    return vmm.split(",", 1)[0]


@dataclasses.dataclass
class Metric:
    name: str
    title: str
    unit: str = ""
    better: str = "none"


@dataclasses.dataclass
class Failure:
    case: str
    vmm: str
    turn: float
    message: str


@dataclasses.dataclass
class Part:
    """What one script measured in one place."""
    name: str
    where: str = "machine"
    date: str = ""
    path: str = ""
    machine: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    # By name, in the order of the header: version (text), tried (bool).
    vmms: dict = dataclasses.field(default_factory=dict)
    metrics: dict = dataclasses.field(default_factory=dict)
    # (case, VMM): argument list, and the files that were made for it, {name: text}.
    commands: dict = dataclasses.field(default_factory=dict)
    # (case, VMM, metric): the value of each round.
    samples: dict = dataclasses.field(default_factory=dict)
    failures: list = dataclasses.field(default_factory=list)
    # (case, VMM): events of minivmm's own account of a start, as trace viewers take them.
    timelines: dict = dataclasses.field(default_factory=dict)
    # What was not understood, in words.
    notes: list = dataclasses.field(default_factory=list)
    # Tells apart several of one name: a setting in which they differ.
    variant: str = ""

    @property
    def title(self):
        return f"{self.name}, {self.variant}" if self.variant else self.name

    def add_vmm(self, name):
        """One that the header does not name, such as "minivmm, KASLR off", belongs to minivmm."""
        if name not in self.vmms:
            unknown = {"version": "", "tried": True}
            self.vmms[name] = self.vmms.get(base_name(name), unknown)

    def vmm_order(self):
        """As the header has them, each followed by its variants."""
        first = list(self.vmms)
        return sorted(self.vmms, key=lambda name: first.index(base_name(name))
                      if base_name(name) in first else first.index(name))

    def lasting_failures(self):
        """Those after which no other try went well."""
        return [failure for failure in self.failures
                if not any(failure.turn in values for (case, vmm, _), values in self.samples.items()
                           if (case, vmm) == (failure.case, failure.vmm))]

    def add_value(self, case, vmm, name, turn, value):
        self.metrics.setdefault(name, Metric(name, name))
        self.add_vmm(vmm)
        self.samples.setdefault((case, vmm, name), {})[turn] = value


@dataclasses.dataclass
class Run:
    folder: str
    parts: list
    notes: list


def as_json(value):
    try:
        return json.dumps(value)
    except RecursionError:
        return "…"


def clean(value):
    """Any JSON value as text of one line that is safe to print: no controls, no lone surrogates."""
    text = value if isinstance(value, str) else as_json(value)
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text).strip()


def clean_lines(value):
    text = value if isinstance(value, str) else as_json(value)
    return "\n".join(clean(line) for line in text.splitlines())


def name_of(item, key):
    """A name in a line; ValueError where there is none."""
    text = item.get(key)
    if not isinstance(text, str) or not clean(text):
        raise ValueError(f"no {key}")
    return clean(text)


def dict_of(item, key):
    value = item.get(key)
    return value if isinstance(value, dict) else {}


def number(value):
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def read_bytes(path):
    """A file; names of files in this tree are made relative to it: where it is says nothing."""
    with open(path, "rb") as f:
        return f.read().replace(ROOT.encode() + b"/", b"")


def file_name(name):
    """The name of a part as a piece of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "part"
