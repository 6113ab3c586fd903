# SPDX-License-Identifier: Apache-2.0
"""Keeps the samples beside a report: the files of the run as they are, as CSV, and all as JSON."""

import csv
import json
import os
import re
import urllib.parse

from . import figures
from .model import file_name, read_bytes

FOLDER = "raw"


def write_csv(path, part):
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(["part", "where", "case", "vmm", "metric", "unit", "better", "round", "value"])
        for (case, vmm, name), values in part.samples.items():
            metric = part.metrics[name]
            for turn, value in values.items():
                out.writerow([part.title, part.where, case, vmm, name, metric.unit, metric.better,
                              f"{turn:g}", repr(value)])


def summary(part):
    """A part's figures, for other programs."""
    found = []
    for group in figures.groups_of(part):
        for figure in group.figures:
            if figure.values:
                found.append({"case": figure.case, "vmm": figure.vmm, "metric": group.metric.name,
                              "unit": group.metric.unit, "better": group.metric.better,
                              "runs": len(figure.values), "failed": figure.failed,
                              "min": min(figure.values), "median": figure.median,
                              "max": max(figure.values), "ratio_to_best": figure.to_best,
                              "ratio_to_minivmm": figure.to_ours})
    return {"part": part.name, "where": part.where, "date": part.date, "machine": part.machine,
            "settings": part.settings, "vmms": part.vmms, "figures": found}


def copy(path, target):
    """A report can be made again from the files that are kept beside it."""
    if not os.path.exists(target) or not os.path.samefile(path, target):
        with open(target, "wb") as f:
            f.write(read_bytes(path))


def write_timelines(run, folder):
    """A file of each, for trace viewers; returns (text, name)."""
    for name in os.listdir(folder):
        if re.fullmatch(r"timeline-\d+-[a-z0-9-]+\.json", name):
            os.unlink(os.path.join(folder, name))
    links = []
    for part in run.parts:
        for (case, vmm), events in part.timelines.items():
            name = f"timeline-{len(links) + 1}-{file_name(f'{case} {vmm}')}.json"
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                json.dump({"traceEvents": events}, f)
            links.append((f"{part.title}, {part.where}: timeline of {vmm}, {case}", name))
    return links


def write(run, folder):
    """Write all; returns (text, address relative to the report) of each file."""
    os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
    links = []
    for part in run.parts:
        name = os.path.basename(part.path)
        copy(part.path, os.path.join(folder, FOLDER, name))
        write_csv(os.path.join(folder, FOLDER, name + ".csv"), part)
        address = f"{FOLDER}/{urllib.parse.quote(name)}"
        links += [(f"{part.title}, {part.where}: as measured", address),
                  (f"{part.title}, {part.where}: CSV", address + ".csv")]
    with open(os.path.join(folder, FOLDER, "figures.json"), "w", encoding="utf-8") as f:
        json.dump([summary(part) for part in run.parts], f, indent=1)
        f.write("\n")
    timelines = write_timelines(run, os.path.join(folder, FOLDER))
    return [*links, ("all figures: JSON", f"{FOLDER}/figures.json"),
            *((words, f"{FOLDER}/{name}") for words, name in timelines)]
