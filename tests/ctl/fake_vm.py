# SPDX-License-Identifier: Apache-2.0
"""A VM that is made up: a server of QMP that answers as it is told, and notes what it was asked."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
TIMEOUT_S = 60

DISKS = [
    {"device": "disk0", "inserted": {
        "file": "/vm/root.qcow2", "ro": False, "bps": 0, "bps_rd": 1000, "bps_wr": 0, "iops": 0,
        "iops_rd": 0, "iops_wr": 0, "iops_size": 0, "bps_rd_max": 5000, "bps_rd_max_length": 1,
        "image": {"format": "qcow2", "virtual-size": 10 << 30, "actual-size": 1536 << 20,
                  "snapshots": [{"id": "1", "name": "before"}]}}},
    {"device": "disk1", "inserted": {
        "file": "/vm/data.raw", "ro": True,
        "image": {"format": "raw", "virtual-size": 1 << 30, "actual-size": 1 << 20}}},
]

ANSWERS = {
    "qmp_capabilities": {},
    "query-status": {"status": "running", "running": True},
    "query-name": {"name": "web"},
    "query-memory-size-summary": {"base-memory": 512 << 20, "plugged-memory": 0},
    "query-cpus-fast": [{"cpu-index": 0}, {"cpu-index": 1}],
    "query-chardev": [{"label": "serial0", "filename": "stdio", "frontend-open": True}],
    "query-block": DISKS,
    "query-commands": [{"name": "query-status"}, {"name": "query-block"}, {"name": "stop"}],
}


class Refusal(Exception):
    """An answer that is an error."""


class FakeVm:
    """
    Listens at `path`, or on TCP at an address. `answers` is added to ANSWERS; a value that can be called gets the arguments
    and the connection. `greeting` may be bytes that are sent as they are; None: nothing is said.
    """

    def __init__(self, path, answers=None, greeting=GREETING):
        self.path = path
        self.answers = {**ANSWERS, **(answers or {})}
        self.greeting = greeting
        self.requests = []
        self.connections = []
        self.socket = socket.socket(socket.AF_INET if isinstance(path, tuple) else socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen(8)
        threading.Thread(target=self.listen, daemon=True).start()

    def close(self):
        """Connections end; the socket's name stays, as of a process that was killed."""
        for item in [self.socket, *self.connections]:
            try:
                item.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            item.close()

    def listen(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            self.greet(connection)
            for line in connection.makefile("rb"):
                self.answer(connection, json.loads(line))
        except (OSError, ValueError):
            pass

    def greet(self, connection):
        if isinstance(self.greeting, bytes):
            connection.sendall(self.greeting)
        elif self.greeting is not None:
            send(connection, self.greeting)

    def answer(self, connection, request):
        name, arguments = request["execute"], request.get("arguments", {})
        self.requests.append((name, arguments))
        answer = {"id": request["id"]}
        try:
            if name not in self.answers:
                raise Refusal(f"The command {name} has not been found")
            value = self.answers[name]
            answer["return"] = value(arguments, connection) if callable(value) else value
        except Refusal as refusal:
            answer["error"] = {"class": "GenericError", "desc": str(refusal)}
        send(connection, answer)

    def asked(self, name):
        """The arguments of all requests of this name."""
        return [arguments for other, arguments in self.requests if other == name]


def send(connection, message):
    connection.sendall(json.dumps(message).encode() + b"\r\n")


def event(connection, name, **data):
    send(connection, {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}})


class CtlTest(unittest.TestCase):
    """Cases with a folder of VMs for each."""

    def setUp(self):
        self.runtime = tempfile.mkdtemp(prefix="minivmm-ctl-")
        self.folder = os.path.join(self.runtime, "minivmm")
        os.mkdir(self.folder, 0o700)
        self.program = os.environ["MINIVMM_CTL"]
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.runtime, LC_ALL="C.UTF-8")
        self.vms = []
        self.addCleanup(self.clean)

    def clean(self):
        for vm in self.vms:
            vm.close()
        shutil.rmtree(self.runtime)

    def path(self, name):
        return os.path.join(self.folder, name + ".qmp")

    def vm(self, name="web", answers=None, **kwargs):
        vm = FakeVm(self.path(name), answers, **kwargs)
        self.vms.append(vm)
        return vm

    def ctl(self, *args, status=0):
        """Run it: (stdout, stderr). Nothing may come that a terminal obeys."""
        done = subprocess.run([self.program, *args], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=TIMEOUT_S, check=False)
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, status, out + err)
        self.assertIsNone(re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", out + err), repr(out + err))
        return out, err

    def out(self, *args):
        out, err = self.ctl(*args)
        self.assertEqual(err, "")
        return out

    def json(self, *args):
        return json.loads(self.out("--json", *args))

    def error(self, status, *args):
        """The one line that says what is wrong."""
        out, err = self.ctl(*args, status=status)
        self.assertEqual(out, "")
        lines = err.splitlines()
        if status == 2 and lines[-1] == "Try `minivmm-ctl --help`.":
            del lines[-1]
        self.assertEqual(len(lines), 1, err)
        self.assertTrue(lines[0].startswith("minivmm-ctl: "), err)
        return lines[0]
