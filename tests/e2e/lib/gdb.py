# SPDX-License-Identifier: Apache-2.0
"""A client of a VM's socket for gdb: packets, without gdb."""

from lib.connect import connect

RSP, RIP = 7, 16


class GdbError(Exception):
    pass


class Gdb:
    """Connects as soon as the socket is there; the guest is stopped then."""

    def __init__(self, path):
        self.buffer = b""
        self.socket = connect(path)
        self.expect("QStartNoAckMode", "OK")
        self.ask("qSupported:swbreak+;hwbreak+")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, packet):
        data = packet.encode()
        self.socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xff))

    def receive(self):
        while True:
            start = self.buffer.find(b"$")
            end = self.buffer.find(b"#", start)
            if 0 <= start < end and len(self.buffer) >= end + 3:
                packet = self.buffer[start + 1:end].decode(errors="replace")
                self.buffer = self.buffer[end + 3:]
                return packet
            data = self.socket.recv(65536)
            if not data:
                raise GdbError("the connection has ended")
            self.buffer += data

    def ask(self, packet):
        self.send(packet)
        return self.receive()

    def expect(self, packet, answer):
        got = self.ask(packet)
        if got != answer:
            raise GdbError(f"{packet}: {got!r}, expected {answer!r}")

    def number(self, packet):
        """An answer that is a little-endian number."""
        return int.from_bytes(bytes.fromhex(self.ask(packet)), "little")

    def register(self, number):
        return self.number(f"p{number:x}")

    def rip(self):
        return self.register(RIP)

    def stack(self, words):
        """What lies on the stack of the current thread: a poor man's backtrace."""
        rsp = self.register(RSP)
        memory = bytes.fromhex(self.ask(f"m{rsp:x},{8 * words:x}"))
        return [int.from_bytes(memory[i:i + 8], "little") for i in range(0, len(memory), 8)]

    def step(self, thread):
        stop = self.ask(f"vCont;s:{thread:x}")
        if not stop.startswith(f"T05thread:{thread:x};"):
            raise GdbError(f"a step ended with {stop!r}")

    def go_on(self):
        self.send("vCont;c")

    def interrupt(self):
        self.socket.sendall(b"\x03")
        return self.receive()

    def detach(self):
        self.expect("D", "OK")
