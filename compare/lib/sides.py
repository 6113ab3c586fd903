# SPDX-License-Identifier: Apache-2.0
"""
The sides of a comparison: VMMs, each by an adapter, compare/adapters/NAME.py, with

    NAME            how it is shown and named with --vmm
    PROGRAM         what is looked for on PATH
    TRIED           False: written from its documentation, never run
    DISK_FORMATS    formats of images it takes, the preferred one first
    CMDLINE         words that its guests need on their command line
    ENDS_BY         "poweroff", or "reboot" where only that ends the VMM
    JOBS_ONLY       True, or left out: no VMM, but runs the jobs of lib/jobs.py
    NETWORKS        "tap", "user": what its network card can have behind it; "vsock"; left out: none
    VERSION_ARGS    what makes the program print its version; left out: --version
    argv(program, guest, scratch)   the command; `scratch` is a folder for files and sockets, empty
                                    but for the guest's disks, and emptied before the next start
"""

import dataclasses
import hashlib
import importlib
import os
import shutil
import subprocess
import sys

from lib.paths import ADAPTERS
from lib.usage import BUILD, refuse

# The others are relative to it.
OURS = "minivmm"


@dataclasses.dataclass(frozen=True)
class Side:
    """A VMM with its program, or a variant of one: `options` are added to the guest's."""
    label: str
    adapter: object
    program: str
    options: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        return self.adapter.NAME

    @property
    def ends_by(self):
        return self.adapter.ENDS_BY

    def variant(self, words, **options):
        return dataclasses.replace(self, label=f"{self.label}, {words}",
                                   options={**self.options, **options})

    def guest(self, guest):
        """The guest as this side gets it."""
        guest = guest.with_words(self.adapter.CMDLINE)
        if "minivmm.do=" not in guest.cmdline:
            guest = guest.with_words(f"minivmm.do={self.ends_by}")
        return dataclasses.replace(guest, options={**guest.options, **self.options})

    def describe(self):
        """For the header of the results: what ran."""
        return {"version": version(self), "tried": self.adapter.TRIED, "program": self.program,
                "sha256": file_hash(self.program)}


def file_hash(path):
    """The beginning of the file's SHA-256: enough to tell that it is another one."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()[:16]


def adapters():
    """All by name, ours first."""
    names = sorted(f[:-3] for f in os.listdir(ADAPTERS) if f.endswith(".py") and f[0] != "_")
    found = {module.NAME: module for module in (importlib.import_module("adapters." + name)
                                                for name in names)}
    return dict(sorted(found.items(), key=lambda item: (item[0] != OURS, item[0])))


def version(side):
    argv = [side.program, *getattr(side.adapter, "VERSION_ARGS", ("--version",))]
    out = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    lines = (out.stdout or out.stderr).strip().splitlines()
    return lines[0].strip() if lines else "?"


def programs(settings):
    """What --vmm NAME=PATH said: {name: path}."""
    known = adapters()
    result = {}
    for setting in settings:
        name, equals, path = setting.partition("=")
        if name not in known or not equals or not path:
            refuse(f"--vmm {setting}: expected NAME=PATH with one of {', '.join(known)}")
        result[name] = path
    return result


def find(names, settings, jobs=False):
    """
    The sides called `names` (all for an empty list) that are here. Those that were named and are
    not here end the program, as ours does; the others are left out. `jobs`: of those that only run
    jobs, too.
    """
    known, paths = adapters(), programs(settings)
    if not jobs:
        known = {name: adapter for name, adapter in known.items()
                 if not getattr(adapter, "JOBS_ONLY", False)}
    for name in names:
        if name not in known:
            refuse(f"{name}: no such adapter; there are {', '.join(known)}")
    found = []
    for name in names or known:
        asked = paths.get(name, known[name].PROGRAM)
        program = shutil.which(asked)
        if program:
            found.append(Side(name, known[name], os.path.abspath(program)))
        elif name in paths or name in names or name == OURS:
            hint = f"; {BUILD}" if asked == known[OURS].PROGRAM else ""
            refuse(f"{name}: {asked}: no such program{hint}")
    if not found:
        refuse("none of the VMMs is here")
    return found


def runnable(sides):
    """Those whose program tells its version; the others are named on stderr."""
    found = []
    for side in sides:
        try:
            version(side)
            found.append(side)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{side.label}: left out: {error}", file=sys.stderr)
    if not found:
        sys.exit("none of the VMMs runs here")
    return found
