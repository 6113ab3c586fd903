#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Internet of the tests: what listens at the addresses that a network of lib/network.py has.

usage: services.py ADDRESS4 ADDRESS6 HOST_NAME SECRET_PORT

HTTP at port 80: GET /bytes/N is N bytes, the body of a PUT or POST is answered by its length and its
SHA-256. TCP and UDP at port 7 send back what comes. DNS at port 53 knows HOST_NAME. SECRET_PORT, on
127.0.0.1 only, tells a secret. Prints "ready".
"""

import hashlib
import http.server
import ipaddress
import socket
import socketserver
import struct
import sys
import threading

BLOCK = hashlib.sha512(b"minivmm").digest() * 1024
SECRET = b"secret of the host\n"
A, AAAA = 1, 28


def blocks(size):
    """`size` bytes in which no 64 KiB are like others."""
    for number in range((size + len(BLOCK) - 1) // len(BLOCK)):
        block = number.to_bytes(8, "little") + BLOCK[8:]
        yield block[:size - number * len(BLOCK)]


def digest(size):
    """The SHA-256 of GET /bytes/SIZE."""
    total = hashlib.sha256()
    for block in blocks(size):
        total.update(block)
    return total.hexdigest()


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def start_answer(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def do_GET(self):
        size = int(self.path.rsplit("/", 1)[-1])
        self.start_answer(size)
        for block in blocks(size):
            self.wfile.write(block)

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        total, got = hashlib.sha256(), 0
        while got < left and (data := self.rfile.read1(min(left - got, 1 << 20))):
            total.update(data)
            got += len(data)
        answer = f"{got} {total.hexdigest()}\n".encode()
        self.start_answer(len(answer))
        self.wfile.write(answer)

    do_PUT = do_POST


class EchoTcp(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class EchoUdp(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


class Secret(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(SECRET)


class Dns(socketserver.BaseRequestHandler):
    """Answers questions for one name; any other one does not exist."""

    name = b""
    addresses = {}

    def handle(self):
        query, sock = self.request
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]])
            at += 1 + query[at]
        kind, = struct.unpack(">H", query[at + 1:at + 3])
        question = query[12:at + 5]
        known = b".".join(labels).lower() == self.name
        address = self.addresses.get(kind) if known else None
        answer = b"" if address is None else struct.pack(
            ">HHHIH", 0xc00c, kind, 1, 60, len(address)) + address
        header = struct.pack(">2sHHHHH", query[:2], 0x8180 if known else 0x8183, 1,
                             1 if answer else 0, 0, 0)
        sock.sendto(header + question + answer, self.client_address)


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """A client that goes away is nobody's fault."""


class Tcp6(Tcp):
    address_family = socket.AF_INET6


class Udp(socketserver.UDPServer):
    max_packet_size = 65535


class Udp6(Udp):
    address_family = socket.AF_INET6


def main():
    address4, address6, name, secret_port = sys.argv[1:]
    Dns.name = name.encode()
    Dns.addresses = {A: ipaddress.ip_address(address4).packed,
                     AAAA: ipaddress.ip_address(address6).packed}
    servers = [Tcp(("0.0.0.0", 80), Web), Tcp6((address6, 80), Web),
               Tcp(("0.0.0.0", 7), EchoTcp), Tcp6((address6, 7), EchoTcp),
               Udp((address4, 7), EchoUdp), Udp6((address6, 7), EchoUdp),
               Udp((address4, 53), Dns), Tcp(("127.0.0.1", int(secret_port)), Secret)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
