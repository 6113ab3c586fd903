# SPDX-License-Identifier: Apache-2.0
"""A client of a VM's control socket, as anybody could write one."""

import json

from lib.connect import connect


class QmpError(Exception):
    pass


class Qmp:
    """Connects as soon as the socket is there; events are kept until somebody waits for them."""

    def __init__(self, path):
        self.events = []
        self.buffer = b""
        self.socket = connect(path)
        self.receive()
        self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def receive(self):
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise QmpError("the connection has ended")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command, **arguments):
        """The answer to a command; dashes in arguments are written as underscores."""
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.socket.sendall(json.dumps({"execute": command, "arguments": names}).encode())
        while True:
            message = self.receive()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error']}")
            else:
                return message["return"]

    def wait_event(self, name):
        """The data of the next event of this name."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event.get("data", {})
            message = self.receive()
            if "event" in message:
                self.events.append(message)
