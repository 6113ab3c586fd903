# SPDX-License-Identifier: Apache-2.0
"""minivmm, the release build of this tree."""

import os

from common import ROOT

BINARY = os.environ.get("MINIVMM", os.path.join(ROOT, "build/release/minivmm"))


def version_argv():
    return [BINARY, "--version"]


def argv(guest):
    command = [BINARY, "--kernel", guest.kernel, "--memory", f"{guest.memory_mib}M",
               "--cpus", str(guest.cpus), "--cmdline", guest.cmdline]
    if guest.initrd:
        command += ["--initrd", guest.initrd]
    if guest.disk:
        command += ["--disk", f"{guest.disk},format={guest.disk_format}"]
    return command
