# SPDX-License-Identifier: Apache-2.0
"""
The results of a run: a folder with one file per part, PART.jsonl, each line an object. A line is
on disk as soon as it is measured, so that a run can be stopped at any time and goes on later.

    {"kind": "header", "part", "format": 1, "where", "machine", "date", "settings", "vmms"}
    {"kind": "vmms", "vmms"}    more than the header has: they joined later
    {"kind": "metric", "name", "unit", "better": "lower"|"higher"|"none", "title"}
    {"kind": "command", "case", "vmm", "argv", "files"}
    {"kind": "sample", "case", "vmm", "round", "values": {metric: number}}
    {"kind": "failure", "case", "vmm", "round", "message"}
    {"kind": "note", "text"}
    {"kind": "timeline", "case", "vmm", "events"}   minivmm's own, of its first start in a case
"""

import fcntl
import json
import os

FORMAT = 1
# Where these differ, samples cannot stand in one table.
FIXED = ("format", "part", "where", "machine", "settings")


class Refused(Exception):
    """The file is of another machine, other settings or other programs, or damaged."""


class Results:
    """What a file says. `samples` is {case: {vmm: {round: values}}}, in the order of the file."""

    def __init__(self, lines):
        self.header, self.metrics, self.commands, self.samples = None, {}, {}, {}
        self.failures, self.notes = {}, []
        for line in lines:
            self.add(line)

    def add(self, line):
        kind = line["kind"]
        if kind == "header":
            self.header = line
        elif kind == "vmms":
            self.header["vmms"].update(line["vmms"])
        elif kind == "metric":
            self.metrics[line["name"]] = line
        elif kind == "command":
            self.commands[line["case"], line["vmm"]] = line
        elif kind == "note":
            self.notes.append(line["text"])
        elif kind == "failure":
            by_round = self.failures.setdefault((line["case"], line["vmm"]), {})
            by_round[line["round"]] = line["message"]
        elif kind == "sample":
            by_vmm = self.samples.setdefault(line["case"], {})
            by_vmm.setdefault(line["vmm"], {})[line["round"]] = line["values"]
            # Measured after all, with --retry.
            self.failures.get((line["case"], line["vmm"]), {}).pop(line["round"], None)

    def values(self, case, vmm, metric):
        """All rounds' values of a metric."""
        rounds = self.samples.get(case, {}).get(vmm, {})
        return [values[metric] for values in rounds.values() if metric in values]

    def measured(self, case, vmm, number):
        return number in self.samples.get(case, {}).get(vmm, {})

    def failed(self, case, vmm):
        return len(self.failures.get((case, vmm), {}))


def whole_lines(path):
    """The file's lines as objects; a last line that was cut off is left out."""
    with open(path, "rb") as f:
        lines = f.read().split(b"\n")[:-1]
    result = []
    for number, line in enumerate(lines, 1):
        try:
            result.append(json.loads(line))
        except ValueError as error:
            raise Refused(f"{path}: line {number} is damaged: {error}") from error
    return result


def read(path):
    results = Results(whole_lines(path))
    if not results.header or results.header.get("format") != FORMAT:
        raise Refused(f"{path}: no results of this format")
    return results


def read_folder(folder):
    """{part: results} of all files of a run."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl"))
    found = {name: os.path.join(folder, name) for name in names}
    return {name[:-6]: read(path) for name, path in found.items() if os.path.getsize(path)}


def difference(old, new):
    """In words what makes two headers incomparable; "" for nothing."""
    for field in FIXED:
        if old.get(field) == new.get(field):
            continue
        before, now = old.get(field), new.get(field)
        if isinstance(before, dict) and isinstance(now, dict):
            key = next(k for k in [*before, *now] if before.get(k) != now.get(k))
            return f"{field}: {key} was {before.get(key)}, is {now.get(key)}"
        return f"{field} was {before}, is {now}"
    return vmm_difference(old.get("vmms", {}), new.get("vmms", {}))


def vmm_difference(old, new):
    """The same of VMMs that are in both; a run may get more of them, or go on with fewer."""
    for name in [name for name in old if name in new and old[name] != new[name]]:
        key = next(k for k in [*old[name], *new[name]] if old[name].get(k) != new[name].get(k))
        return (f"the program of {name} is another one: its {key} was {old[name].get(key)}, "
                f"is {new[name].get(key)}")
    return ""


def lock(file, path):
    """Two runs at once would measure each other, and mix their lines."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"{path}: another run is under way") from None


class Store:
    """A part's file, open for more. `results` is what it says so far."""

    def __init__(self, path, header, metrics):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.path = path
        self.file = open(path, "a+b")
        try:
            lock(self.file, path)
            lines = whole_lines(path)
            self.results = Results(lines)
            if lines:
                self._refuse_other(header)
        except Refused:
            self.file.close()
            raise
        # A line that was cut off goes.
        self.file.seek(0)
        data = self.file.read()
        self.file.truncate(data.rfind(b"\n") + 1)
        self.file.seek(0, os.SEEK_END)
        if not lines:
            self.append(header)
        self._add_vmms(header)
        for metric in metrics:
            if metric["name"] not in self.results.metrics:
                self.append(metric)

    def _refuse_other(self, header):
        what = difference(self.results.header or {}, header)
        if what:
            raise Refused(f"{self.path} cannot be continued: {what}; "
                          "name another folder with --out, or remove it")

    def _add_vmms(self, header):
        known = self.results.header["vmms"]
        more = {name: vmm for name, vmm in header["vmms"].items() if name not in known}
        if more:
            self.append({"kind": "vmms", "vmms": more})

    def append(self, line):
        self.file.write(json.dumps(line).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.results.add(line)

    def close(self):
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
