# SPDX-License-Identifier: Apache-2.0
"""Streams between guest and host by vsock: Linux's driver, and programs of the host beside it."""

import os
import random
import selectors
import socket
import stat
import threading

from lib.connect import connect
from lib.qmp import Qmp
from lib.testing import scenario

MODULE = "vmw_vsock_virtio_transport"
TIMEOUT_S = 120
MANY = 100
BYTES = 64 << 10


def guest_with_vsock(t, vsock, *args, **options):
    """A busybox guest with its driver loaded, and a shell."""
    vm = t.busybox("--initrd", t.guest_file("initramfs-devices.cpio.gz"), "--vsock", vsock, *args,
                   do="shell", **options)
    vm.shell()
    status, output = vm.sh(f"modprobe {MODULE}")
    t.equal(status, 0, f"modprobe: {output}")
    return vm


def ask(path, port):
    """Connect to a port of the guest. Returns the socket, and what it said."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(path)
    sock.sendall(b"CONNECT %d\n" % port)
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        line += byte
    return sock, line


def swarm(t, path, port, seed):
    """Many connections to an echo in the guest, all of them busy at the same time."""
    numbers = random.Random(seed)
    selector = selectors.DefaultSelector()
    for _ in range(MANY):
        sock, line = ask(path, port)
        t.check(line.startswith(b"OK "), f"CONNECT was answered by {line!r}")
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE,
                          {"data": numbers.randbytes(BYTES), "sent": 0, "got": b""})
    while selector.get_map():
        ready = selector.select(TIMEOUT_S)
        t.check(ready, "connections to the guest stand still")
        for key, events in ready:
            move(t, selector, key, events)


def move(t, selector, key, events):
    sock, state = key.fileobj, key.data
    if events & selectors.EVENT_WRITE:
        state["sent"] += sock.send(state["data"][state["sent"]:state["sent"] + 4096])
        if state["sent"] == BYTES:
            sock.shutdown(socket.SHUT_WR)
            selector.modify(sock, selectors.EVENT_READ, state)
    if events & selectors.EVENT_READ:
        data = sock.recv(65536)
        state["got"] += data
        if not data:
            t.check(state["got"] == state["data"], f"{len(state['got'])} bytes came back, or others")
            selector.unregister(sock)
            sock.close()


def echo_server(path):
    """Sends back what comes; the queue of those who wait is short."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)

    def serve(sock):
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


@scenario(seconds=40, guest=("busybox", "trixie"))
def vsock_both_ways(t):
    """Both kernels, both directions, 100 at once; nobody is there for others."""
    for kernel in ("", "-13"):
        path = t.path(f"v{kernel}.sock")
        initrd = t.guest_file(f"initramfs-devices{kernel}.cpio.gz")
        with t.busybox("--initrd", initrd, "--vsock", f"path={path}", do="shell",
                       kernel=kernel) as vm:
            connect(path).close()
            t.equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode of the socket")
            t.equal(ask(path, 7000)[1], b"", "an answer before the guest's driver is there")
            vm.shell()
            t.equal(vm.sh(f"modprobe {MODULE}")[0], 0, "modprobe")
            t.equal(ask(path, 7000)[1], b"", "an answer where nobody listens in the guest")
            vm.send("sockets echo vsock:-1:7000 &\n")
            vm.expect("listening")
            swarm(t, path, 7000, t.seed)

            listener = echo_server(path + "_9000")
            status, output = vm.sh(f"sockets swarm vsock:2:9000 {MANY} {BYTES}")
            t.equal(status, 0, f"connections of the guest: {output}")
            status, output = vm.sh("sockets pipe vsock:2:9001 </dev/null")
            t.check(status != 0 and "reset" in output, f"a port where nobody listens: {output}")
            status, output = vm.sh("sockets pipe vsock:77:9000 </dev/null")
            t.check(status != 0, "another guest can be reached")
            listener.close()
            vm.send("poweroff -f\n")
            t.equal(vm.wait(), 0, "exit status")
        t.check(not os.path.exists(path), "the socket is still there")


@scenario(seconds=20)
def vsock_limits_of_a_guest(t):
    """listen=off and a map; another context ID; a guest that restarts; a pause."""
    path, agent, qmp = t.path("v.sock"), t.path("agent"), t.path("qmp.sock")
    vm = guest_with_vsock(t, f"path={path},cid=1234,listen=off,map=1024:{agent}", "--qmp",
                          f"unix:{qmp}", "--on-reboot", "restart")
    with vm:
        listeners = [echo_server(agent), echo_server(path + "_9000")]
        t.equal(vm.sh("echo hello | sockets pipe vsock:2:1024")[1].strip(), "hello", "the map")
        t.check(vm.sh("sockets pipe vsock:2:9000 </dev/null")[0] != 0, "a port beside the map")
        vm.send("sockets echo vsock:1234:7000 &\n")
        vm.expect("listening")
        sock, line = ask(path, 7000)
        t.check(line.startswith(b"OK "), f"CONNECT was answered by {line!r}")

        with Qmp(qmp) as client:
            moved = {stat["name"]: stat["value"] for part in client.ask("query-stats", target="vm")
                     if part.get("qom-path") == "/machine/vsock" for stat in part["stats"]}
            t.equal(moved["to-guest-connections"], 1, "connections to the guest")
            t.equal(moved["from-guest-bytes"], len("hello\n"), "bytes from the guest")
            client.ask("stop")
            sock.sendall(b"while it stands still")
            client.ask("cont")
        t.equal(sock.recv(100), b"while it stands still", "bytes sent during a pause")

        vm.send("reboot -f\n")
        t.equal(sock.recv(100), b"", "a connection after the guest's restart")
        vm.shell()
        t.equal(vm.sh(f"modprobe {MODULE}")[0], 0, "modprobe")
        t.equal(vm.sh("echo again | sockets pipe vsock:2:1024")[1].strip(), "again", "the map")
        vm.send("poweroff -f\n")
        t.equal(vm.wait(), 0, "exit status")
        for listener in listeners:
            listener.close()
