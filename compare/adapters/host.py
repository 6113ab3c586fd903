# SPDX-License-Identifier: Apache-2.0
"""No VMM: the host itself, which runs the jobs of lib/jobs.py with the guests' programs.

enter_files goes to the folder FILES in the scratch folder, which the part fills.

Options: programs (the folder that scripts/guest-image bench left), job (the script)
"""

import os
import shlex

NAME = "host"
PROGRAM = "sh"
TRIED = True
DISK_FORMATS = ("raw",)
CMDLINE = ""
ENDS_BY = "poweroff"
JOBS_ONLY = True
VERSION_ARGS = ("-c", "uname -sr")
# Beside the script.
FILES = "files"


def program_words(folder, name):
    """What runs a program of the guests here: with the loader and libraries that lie beside it."""
    path = os.path.join(folder, "bin", name)
    if name == "fio":  # linked statically
        return path
    loader = os.path.join(folder, "lib64/ld-linux-x86-64.so.2")
    return f"{loader} --library-path {folder}/lib/x86_64-linux-gnu {path}"


def argv(program, guest, scratch):
    lines = [f"disk{number}={shlex.quote(disk.path)}"
             for number, disk in enumerate(guest.disks, 1)]
    for name in ("fio", "sysbench"):
        words = program_words(guest.options.get("programs", ""), name)
        lines.append(f"{name.upper()}={shlex.quote(words)}")
    lines.append(f"enter_files() {{ cd {shlex.quote(os.path.join(scratch, FILES))}; }}")
    job = guest.options.get("job")
    lines.append(f". {shlex.quote(job)}" if job else 'echo "minivmm-guest: userspace"')
    script = os.path.join(scratch, "job.sh")
    with open(script, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return [program, script]
