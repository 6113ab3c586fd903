# SPDX-License-Identifier: Apache-2.0
"""Reads a run folder: one file of JSON lines for each part, as lib/results.py writes them.

A run may have been stopped at any point, and a file may come from anywhere. What is not understood
is left out and noted; what would give a wrong report is refused.
"""

import glob
import json
import os

from lib.results import FORMAT, Refused

from . import beside
from .model import (BETTER, Failure, Metric, Part, Run, clean, clean_lines, dict_of, name_of,
                    number, read_bytes)


def parse_line(line):
    item = json.loads(line)
    if not isinstance(item, dict):
        raise ValueError("not an object")
    return item


def add_header(part, item):
    if item.get("format") != FORMAT:
        found = clean(item.get("format"))
        raise Refused(f"{part.path}: format {found}, this program reads {FORMAT}")
    part.where = name_of(item, "where")
    part.name = name_of(item, "part")
    part.date = clean(item.get("date", ""))
    part.machine = dict_of(item, "machine")
    part.settings = dict_of(item, "settings")
    add_vmms(part, item)


def add_vmms(part, item):
    for name, vmm in dict_of(item, "vmms").items():
        vmm = vmm if isinstance(vmm, dict) else {}
        part.vmms[clean(name)] = {"version": clean(vmm.get("version") or ""),
                                  "tried": vmm.get("tried", True) is True}


def add_metric(part, item):
    name = name_of(item, "name")
    better = item.get("better")
    part.metrics[name] = Metric(name, clean(item.get("title") or name),
                                clean(item.get("unit") or ""),
                                better if better in BETTER else "none")


def add_command(part, item):
    argv = item.get("argv")
    if not isinstance(argv, list):
        raise ValueError("no argv")
    made = {clean(name): clean_lines(text) for name, text in dict_of(item, "files").items()}
    case, vmm = name_of(item, "case"), name_of(item, "vmm")
    part.commands[case, vmm] = ([clean(word) for word in argv], made)


def add_sample(part, item):
    case, vmm, turn = name_of(item, "case"), name_of(item, "vmm"), number(item.get("round"))
    if turn is None:
        raise ValueError("no round")
    values = {clean(name): number(value) for name, value in dict_of(item, "values").items()}
    for name, value in values.items():
        if value is not None:
            part.add_value(case, vmm, name, turn, value)
    if not values or None in values.values():
        raise ValueError("a value that is not a number" if values else "no values")


def add_note(part, item):
    part.notes.append(name_of(item, "text"))


def add_failure(part, item):
    vmm = name_of(item, "vmm")
    part.add_vmm(vmm)
    part.failures.append(Failure(name_of(item, "case"), vmm, number(item.get("round")),
                                 clean_lines(item.get("message") or "")))


def plain(item):
    """The texts and finite numbers of an event, and of its args."""
    found = {}
    for key, value in item.items():
        if isinstance(value, str):
            found[clean(key)] = clean(value)
        elif number(value) is not None:
            found[clean(key)] = value
        elif key == "args" and isinstance(value, dict):
            found["args"] = plain({name: arg for name, arg in value.items() if name != "args"})
    return found


def add_timeline(part, item):
    events = item.get("events")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError("no events")
    part.timelines[name_of(item, "case"), name_of(item, "vmm")] = [plain(e) for e in events]


ADDERS = {"vmms": add_vmms, "metric": add_metric, "command": add_command, "sample": add_sample,
          "failure": add_failure, "note": add_note, "timeline": add_timeline}


def read_part(path):
    """One file, or None where not even its header is whole, and notes."""
    part = Part("", path=path)
    lines = read_bytes(path).split(b"\n")
    cut = len(lines)
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = parse_line(line)
            kind = item.get("kind")
            if kind == "header" and not part.name:
                add_header(part, item)
            elif not part.name:
                break
            elif kind == "header":
                raise Refused(f"{path}: line {at}: a second header: two runs in one file")
            elif kind in ADDERS:
                ADDERS[kind](part, item)
            else:
                raise ValueError(f"unknown kind {clean(kind)}")
        except (ValueError, RecursionError) as error:
            if at == cut and isinstance(error, json.JSONDecodeError):
                part.notes.append("the last line is cut short: this part was stopped")
            else:
                part.notes.append(f"line {at} left out: {clean(str(error))}")
    if not part.name:
        name = clean(os.path.basename(path))
        return None, [f"{name}: left out: it does not begin with a whole header"]
    return part, []


def differing(one, other):
    """
    The first of the keys of both in which two descriptions of a machine differ, in words. Of an
    emulated host, the machine around it counts: each part may emulate another size.
    """
    for key in [key for key in one if key in other and key != "emulated"]:
        if one[key] != other[key]:
            return f"{clean(key)} {clean(one[key])} and {clean(other[key])}"
    return ""


def twins(part, parts):
    """Parts of the same name, measured in the same place; `part` is one of them."""
    return [other for other in parts if (other.name, other.where) == (part.name, part.where)]


def setting_texts(parts, keys, words):
    """Of each part, these settings; `words` is how many words of each value."""
    def text(part, key):
        value = clean(part.settings.get(key, "")).split()[:words]
        return f"{clean(key)} {' '.join(value) or 'none'}"

    return [", ".join(text(part, key) for key in keys) for part in parts]


def tell_apart(parts):
    """A text for each of several parts, of the settings in which they differ; None without any."""
    known = dict.fromkeys(key for part in parts for key in part.settings)
    differ = [key for key in known
              if len({clean(part.settings.get(key, "")) for part in parts}) > 1]
    # Kernels come with initrds of their own, which say less.
    single = sorted(differ, key=lambda key: key != "kernel")
    for keys in [*([key] for key in single), differ]:
        # Of a file, its name; its checksum follows, which is seldom needed.
        for words in (1, None):
            texts = setting_texts(parts, keys, words)
            if len(set(texts)) == len(parts):
                return texts
    return None


def name_variants(parts):
    """Several runs of one part, as of several kernels, get a title each."""
    for part in parts:
        group = twins(part, parts)
        if len(group) == 1:
            continue
        texts = tell_apart(group)
        if not texts:
            paths = " and ".join(other.path for other in group)
            raise Refused(f"{paths} are runs of {part.name} with the same settings")
        part.variant = texts[group.index(part)]


def check_parts(parts):
    """One machine: figures of two say nothing about two programs."""
    for at, part in enumerate(parts):
        for other in parts[:at]:
            different = differing(other.machine, part.machine)
            if different:
                raise Refused(f"{other.path} and {part.path} come from two machines ({different}): "
                              "make a report of each")


def files(folder, suffix):
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*" + suffix)))
    # A part that has just begun has an empty one.
    return [path for path in paths if os.path.isfile(path) and os.path.getsize(path)]


def read_run(folder):
    if not os.path.isdir(folder):
        raise Refused(f"{folder}: no such folder")
    parts, notes = [], []
    try:
        for suffix, read in ((".jsonl", read_part), (".json", beside.read_part)):
            for path in files(folder, suffix):
                part, why = read(path)
                parts += [part] if part else []
                notes += why
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    parts = [part for part in parts if part.samples or part.failures]
    if not parts:
        raise Refused("; ".join([f"{folder}: no results", *notes]))
    check_parts(parts)
    name_variants(parts)
    return Run(folder, parts, notes)
