# SPDX-License-Identifier: Apache-2.0
"""The comparison scripts measure, as long as they need for it."""

import json
import os
import sys

from lib.testing import scenario

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def compare(t, part, *options):
    """Run a part with minivmm alone, once each; returns the lines of its results."""
    out = t.path("run")
    # Where the scenario runs has been decided; scripts/ is not there in the emulated host.
    moved = not os.path.exists(os.path.join(ROOT, "scripts"))
    command = [sys.executable, os.path.join(ROOT, "compare", part), "--vmms", "minivmm",
               "--vmm", f"minivmm={t.minivmm}", "--runs", "1", "--out", out,
               "--kernel", t.guest_file("vmlinuz"),
               "--initrd", t.guest_file("initramfs-busybox.cpio.gz"), *options]
    t.tool("env", *(["MINIVMM_EMULATED_HOST=1"] if moved else []), *command)
    with open(os.path.join(out, part + ".jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def samples(lines, case):
    return {line["vmm"]: line["values"] for line in lines
            if line["kind"] == "sample" and line["case"] == case}


@scenario(seconds=50)
def compare_boot_time_measures_a_boot(t):
    """compare/boot-time times user space, the end and minivmm's own steps, and shows a table."""
    lines = compare(t, "boot-time", "--cpus", "1", "--only", "inside|user space, cold")
    t.equal([line for line in lines if line["kind"] == "failure"], [], "failures")
    boots = samples(lines, "user space, cold, 1 cpu")
    t.equal(sorted(boots), ["minivmm", "minivmm, kernel cache cold"], "rows")
    for values in boots.values():
        t.check(0 < values["userspace_ms"] < values["whole_ms"], f"times: {values}")
    inside = samples(lines, "inside, 1 cpu")["minivmm"]
    t.check(inside["to_run_ms"] > 0 and inside["to_exit_ms"] > 0, f"timeline: {inside}")


@scenario(seconds=30)
def compare_pmap_measures_an_idle_guest(t):
    """compare/pmap tells the guest's RAM from what the VMM needs besides."""
    lines = compare(t, "pmap", "--memory", "256", "--only", "^idle")
    t.equal([line for line in lines if line["kind"] == "failure"], [], "failures")
    idle = samples(lines, "idle")["minivmm"]
    t.check(idle["mapped_kib"] - idle["mapped_beyond_kib"] == 256 << 10, f"RAM: {idle}")
    t.check(100 < idle["rss_beyond_kib"] < 8192, f"beyond RAM: {idle}")
