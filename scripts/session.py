# SPDX-License-Identifier: Apache-2.0
"""Run a command in a session of its own, and leave nothing of it behind."""

import os
import signal
import subprocess


def members(session):
    """The processes of a session that run, or may begin to."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                state, _, _, of = f.read().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state not in "ZX":
            found.append(int(name))
    return found


def kill(session):
    """End all of its processes: a test under libcheck has a process group of its own."""
    pids = members(session)
    while pids:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        pids = members(session)


def run(argv, log, timeout, cwd, env=None):
    """Run a command with its output in `log`. Returns its status, or None when it timed out."""
    with open(log, "wb") as out:
        process = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, env=env, start_new_session=True)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            kill(process.pid)
            process.wait()
