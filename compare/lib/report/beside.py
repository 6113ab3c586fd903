# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON that compare/block-bench and compare/img-bench write with --json."""

import json
import os

from .model import Metric, Part, clean, dict_of, name_of, number, read_bytes


def no_values(why):
    raise ValueError(why)


def add_values(part, case, side, metric, values):
    for turn, value in enumerate(values if isinstance(values, list) else no_values("no values")):
        value = number(value)
        if value is None:
            raise ValueError("a value that is not a number")
        part.add_value(case, clean(side), metric, turn, value)


def add_block(part, result):
    """Requests per second of each side: QEMU's aio modes, or our own engine otherwise, and ours."""
    case = name_of(result, "name")
    for side, values in dict_of(result, "rates").items():
        add_values(part, case, side, "rate", values)
    return case


def add_img(part, result):
    """For each program, the seconds of all runs and their processor time."""
    case = name_of(result, "name")
    for side, both in dict_of(result, "measured").items():
        seconds, cpu = both
        add_values(part, case, side, "seconds", seconds)
        add_values(part, case, side, "cpu", cpu)
    return case


KINDS = {
    "block": ("block-bench", add_block,
              [Metric("rate", "requests per second", "1/s", "higher")]),
    "img": ("img-bench", add_img,
            [Metric("seconds", "from start to end", "s", "lower"),
             Metric("cpu", "processor time", "s", "lower")]),
}
PROGRAMS = {"block-bench": ["qemu-img", "bench"], "img-bench": ["qemu-img"]}


def add_result(part, add, result):
    if not isinstance(result, dict):
        raise ValueError("not an object")
    case = add(part, result)
    args = result.get("args")
    if isinstance(args, str):
        args = args.split(" ")
    if isinstance(args, list):
        for side in {vmm for at, vmm, _ in part.samples if at == case}:
            program = PROGRAMS[part.name]
            if side.startswith("minivmm"):
                program = ["minivmm-img", *program[1:]]
            part.commands[case, side] = [*program, *(clean(arg) for arg in args)], {}


def make_part(path, data):
    name, add, metrics = KINDS[data["what"]]
    part = Part(name, path=path, machine=dict_of(data, "machine"),
                     date=clean(data.get("date", "")),
                     metrics={metric.name: metric for metric in metrics})
    results = data.get("results")
    for at, result in enumerate(results if isinstance(results, list) else []):
        try:
            add_result(part, add, result)
        except (TypeError, ValueError) as error:
            part.notes.append(f"result {at} left out: {clean(str(error))}")
    return part


def read_part(path):
    """One file, or None where it is something else, and notes."""
    try:
        data = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        return None, [f"{clean(os.path.basename(path))}: left out: no whole JSON"]
    if not isinstance(data, dict) or data.get("what") not in KINDS:
        return None, []
    return make_part(path, data), []
