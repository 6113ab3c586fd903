# SPDX-License-Identifier: Apache-2.0
"""What minivmm says of itself: the timeline that --boot-trace writes."""

import json
import os

from lib.part import metric

FILE = "boot-trace.json"
# Spans of which the table shows how long they take.
SPANS = {"vm_ms": "create the VM", "vcpus_ms": "create vCPUs", "load_ms": "load the guest",
         "kernel_ms": "place the kernel", "files_ms": "read files into memory",
         "free_ms": "free the machine"}
FIRST_RUN = "first KVM_RUN"
OUTPUT = "first output byte"
OFF = "the guest powers off"

METRICS = (
    metric("main_ms", "ms", "lower", "exec to main"),
    *(metric(name, "ms", "lower", f"inside: {span}") for name, span in SPANS.items()),
    metric("to_run_ms", "ms", "lower", "inside: main to the first KVM_RUN"),
    metric("to_output_ms", "ms", "lower", "inside: the first KVM_RUN to the guest's first byte"),
    metric("to_exit_ms", "ms", "lower", "inside: the power-off to the end of the process"),
)


def read(folder):
    with open(os.path.join(folder, FILE), encoding="utf-8") as f:
        return json.load(f)["traceEvents"]


def values(events, begin_s, end_s):
    """Milliseconds of a process that began and ended at these times of the monotonic clock."""
    steps = [event for event in events if event["ph"] != "M"]
    first = {}
    for event in steps:
        first.setdefault(event["name"], event)
    found = {"main_ms": steps[0]["ts"] / 1e3 - begin_s * 1e3}
    found.update({name: first[span]["dur"] / 1e3 for name, span in SPANS.items() if span in first})
    found["to_run_ms"] = (first[FIRST_RUN]["ts"] - steps[0]["ts"]) / 1e3
    if OUTPUT in first:
        found["to_output_ms"] = (first[OUTPUT]["ts"] - first[FIRST_RUN]["ts"]) / 1e3
    if OFF in first:
        found["to_exit_ms"] = end_s * 1e3 - first[OFF]["ts"] / 1e3
    return found
