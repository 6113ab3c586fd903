# SPDX-License-Identifier: Apache-2.0
"""Makes folders of results, with what a test wants in them, and modules of scripts."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REPORT = os.path.join(ROOT, "compare", "report")
MACHINE = {"cpu": "a processor", "cpus": 2, "memory_mib": 4096, "kernel": "6.1.0"}
MS = {"kind": "metric", "name": "ms", "unit": "ms", "better": "lower", "title": "exec to there"}
RATE = {"kind": "metric", "name": "rate", "unit": "1/s", "better": "higher", "title": "events"}
needs_gnuplot = unittest.skipUnless(shutil.which("gnuplot"),
                                    "gnuplot is missing: run `scripts/setup report`")


def script_module(name):
    """A script of compare/ as a module."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, "compare", name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def header(part="boot-time", **changes):
    return {"kind": "header", "part": part, "format": 1, "where": "machine", "machine": MACHINE,
            "date": "2026-11-29T12:00:00+00:00", "settings": {"memory_mib": 256},
            "vmms": {"minivmm": {"version": "minivmm 1", "tried": True},
                     "other": {"version": "other 2", "tried": False}}, **changes}


def sample(turn, values, vmm="minivmm", case="userspace"):
    return {"kind": "sample", "case": case, "vmm": vmm, "round": turn,
            "values": values if isinstance(values, dict) else {"ms": values}}


def samples(values, vmm="minivmm", case="userspace", metric="ms"):
    return [sample(turn, {metric: value}, vmm, case) for turn, value in enumerate(values, 1)]


def failure(turn, vmm="minivmm", case="userspace", message="no marker"):
    return {"kind": "failure", "case": case, "vmm": vmm, "round": turn, "message": message}


def command(argv, vmm="minivmm", case="userspace", files=None):
    return {"kind": "command", "case": case, "vmm": vmm, "argv": argv, "files": files or {}}


def encoded(lines):
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class RunTestCase(unittest.TestCase):
    """Has a scratch folder, which goes at the end."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="minivmm-compare-")
        self.addCleanup(scratch.cleanup)
        self.scratch = scratch.name

    def path(self, *names):
        return os.path.join(self.scratch, *names)

    def write(self, name, data):
        """A file in the scratch folder, of bytes or of lines; returns its folder."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data if isinstance(data, bytes) else encoded(data))
        return os.path.dirname(path)

    def report(self, *args, **env):
        """Run compare/report; returns the finished process."""
        return subprocess.run([sys.executable, "-B", REPORT, *args], cwd=self.scratch, check=False,
                              capture_output=True, text=True, timeout=120,
                              env={**os.environ, **env})
