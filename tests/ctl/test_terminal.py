# SPDX-License-Identifier: Apache-2.0
"""console and top on a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty

from fake_vm import TIMEOUT_S, CtlTest, event

# Listens on a socket, as a process that is not the VM.
LISTENER = """
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
print(flush=True)
time.sleep(60)
"""


def prepare_child():
    """Its terminal, and signals as a login shell has them: nohup and a shell's jobs ignore some."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """The program on a pty."""

    def __init__(self, test, *args, rows=24, columns=80, cwd=None):
        self.test = test
        self.fd, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen([test.program, *args], env=test.env, stdin=slave,
                                        stdout=slave, stderr=slave, cwd=cwd, start_new_session=True,
                                        preexec_fn=prepare_child)
        self.slave = slave
        self.output = b""
        test.addCleanup(self.close)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        if select.select([self.fd], [], [], seconds)[0]:
            self.output += os.read(self.fd, 65536)

    def expect(self, text):
        """Until this comes; returns what came before it and forgets both."""
        end = time.monotonic() + TIMEOUT_S
        while not (found := re.search(text, self.output)):
            self.test.assertLess(time.monotonic(), end, f"{text!r} does not come: {self.output!r}")
            self.read()
        before, self.output = self.output[:found.start()], self.output[found.end():]
        return before

    def send(self, data):
        os.write(self.fd, data)

    def wait(self):
        """The exit status; the terminal has to be as it was."""
        end = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            self.test.assertLess(time.monotonic(), end, repr(self.output))
            self.read()
        self.read()
        self.test.assertEqual(termios.tcgetattr(self.slave), self.before)
        return self.process.returncode


class Serial:
    """The serial port of a VM on a unix socket."""

    def __init__(self, test):
        self.path = os.path.join(test.runtime, "serial")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(TIMEOUT_S)
        self.client = None
        test.addCleanup(self.close)

    def accept(self):
        self.client, _ = self.listener.accept()
        self.client.settimeout(TIMEOUT_S)

    def receive(self, test, data):
        got = b""
        while len(got) < len(data):
            got += self.client.recv(4096)
        test.assertEqual(got, data)

    def close(self):
        self.listener.close()
        if self.client:
            self.client.close()


def chardev(filename):
    return {"query-chardev": [{"label": "serial0", "filename": filename}]}


class Console(CtlTest):
    def attach(self, *args, prefix=""):
        self.serial = Serial(self)
        self.vm("web", chardev(f"{prefix}unix:{self.serial.path},server=on"))
        terminal = Terminal(self, "web", "console", *args)
        self.serial.accept()
        return terminal

    def test_keys_output_and_detaching(self):
        terminal = self.attach()
        self.serial.client.sendall(b"\x1b[1mlogin: ")
        terminal.expect(rb"web: attached; Ctrl-\] detaches")
        terminal.expect(rb"\x1b\[1mlogin: ")
        # All other keys go to the guest, and what it prints is not changed.
        terminal.send(b"root\r\x03\x1a\x11\x01")
        self.serial.receive(self, b"root\r\x03\x1a\x11\x01")
        self.serial.client.sendall(b"a\nb")
        terminal.expect(b"a\nb")
        terminal.send(b"x\x1dy")
        self.serial.receive(self, b"x")
        self.assertEqual(terminal.wait(), 0)
        terminal.expect(b"web: detached")
        self.assertEqual(self.serial.client.recv(1), b"")

    def test_as_qemu_says_that_nobody_is_there(self):
        terminal = self.attach(prefix="disconnected:")
        self.serial.client.sendall(b"login: ")
        terminal.expect(b"login: ")

    def test_path_is_of_the_vms_folder(self):
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        self.serial = Serial(self)
        self.vm("web", chardev("unix:serial,server=on"))
        os.chdir(self.runtime)  # of this process, which is the VM
        terminal = Terminal(self, "web", "console", cwd="/")
        self.serial.accept()
        terminal.expect(b"detaches")

    def test_another_key_detaches(self):
        terminal = self.attach("--detach-key", "^a")
        terminal.expect(rb"Ctrl-A detaches")
        terminal.send(b"\x1dx")
        self.serial.receive(self, b"\x1dx")
        terminal.send(b"\x01")
        self.assertEqual(terminal.wait(), 0)

    def test_end_of_the_vm(self):
        terminal = self.attach()
        self.serial.client.sendall(b"last words")
        self.serial.client.close()
        self.assertEqual(terminal.wait(), 0)
        terminal.expect(b"last words")
        terminal.expect(b"web: the serial port is closed")

    def test_guest_that_takes_no_input_can_be_left(self):
        terminal = self.attach()
        terminal.expect(b"detaches")
        for _ in range(300):
            terminal.send(b"k" * 1000)
            terminal.read(0)
        terminal.send(b"\x1d")
        self.assertEqual(terminal.wait(), 0)

    def test_signals_restore_the_terminal(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            terminal = self.attach()
            terminal.expect(b"detaches")
            self.serial.client.sendall(b"x")
            terminal.expect(b"x")
            terminal.process.send_signal(number)
            self.assertEqual(terminal.wait(), -number)
            self.serial.close()
            os.unlink(self.serial.path)
            self.vms.pop().close()
            os.unlink(self.path("web"))

    def test_pipes(self):
        serial = Serial(self)
        self.vm("web", chardev(f"unix:{serial.path},server=on"))
        process = subprocess.Popen([self.program, "web", "console"], env=self.env,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        serial.accept()
        process.stdin.write(b"in\x1dput")
        process.stdin.close()
        serial.receive(self, b"in\x1dput")
        serial.client.sendall(b"output")
        serial.client.close()
        self.assertEqual(process.stdout.read(), b"output")
        self.assertEqual(process.wait(TIMEOUT_S), 0)
        process.stdout.close()

    def test_pseudo_terminal_begins_with_what_was_shown(self):
        master, slave = pty.openpty()
        vm = self.vm("web", chardev("pty:" + os.ttyname(slave)) | {"ringbuf-read": "\x1b[1mlogin: "})
        tty.setraw(slave)
        os.close(slave)
        terminal = Terminal(self, "web", "console")
        terminal.expect(b"detaches")
        terminal.expect(re.escape(b"\x1b[1mlogin: "))
        os.write(master, b"root")
        terminal.expect(b"root")
        self.assertEqual(vm.asked("ringbuf-read"), [{"device": "serial0", "size": 8192}])
        terminal.send(b"\x1d")
        self.assertEqual(terminal.wait(), 0)
        os.close(master)

    def test_console_where_the_serial_port_is_nowhere(self):
        master, slave = pty.openpty()
        ports = {"serial0": "null", "console0": "pty:" + os.ttyname(slave)}
        vm = self.vm("web", {
            "query-chardev": [{"label": label, "filename": name} for label, name in ports.items()],
            "ringbuf-read": "shown"})
        tty.setraw(slave)
        os.close(slave)
        terminal = Terminal(self, "web", "console")
        terminal.expect(b"shown")
        os.write(master, b"printed")
        terminal.expect(b"printed")
        self.assertEqual(vm.asked("ringbuf-read"), [{"device": "console0", "size": 8192}])
        terminal.send(b"\x1d")
        self.assertEqual(terminal.wait(), 0)
        os.close(master)

    def test_pseudo_terminal(self):
        master, slave = pty.openpty()
        self.vm("web", chardev("pty:" + os.ttyname(slave)))
        tty.setraw(slave)
        os.close(slave)
        terminal = Terminal(self, "web", "console")
        terminal.expect(b"detaches")
        os.write(master, b"hello")
        terminal.expect(b"hello")
        terminal.send(b"\x1d")
        self.assertEqual(terminal.wait(), 0)
        os.close(master)

    def test_where_nobody_can_attach(self):
        for i, filename in enumerate(("stdio", "null", "file:/x", "pty", "")):
            self.vm(f"vm{i}", chardev(filename))
            line = self.error(1, f"vm{i}", "console")
            self.assertIn(f"the serial port is at '{filename}'", line)
            self.assertIn("--serial unix:PATH", line)

    def test_serial_port_that_is_gone_is_no_vm_that_is_gone(self):
        path = os.path.join(self.runtime, "serial")
        self.vm("web", chardev(f"unix:{path},server=on"))
        self.assertIn("there is no such socket", self.error(4, "web", "console"))
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(path)
        self.assertIn("nobody listens there", self.error(4, "web", "console"))

    def test_somebody_elses_socket_gets_no_keys(self):
        path = os.path.join(self.runtime, "agent")
        listener = subprocess.Popen([sys.executable, "-c", LISTENER, path], stdout=subprocess.PIPE)
        listener.stdout.readline()
        self.vm("web", chardev(f"unix:{path},server=on"))
        self.assertIn(f"process {listener.pid} listens there, and not the VM",
                      self.error(4, "web", "console"))
        listener.kill()
        listener.wait()
        listener.stdout.close()

    def test_terminals_that_are_none(self):
        for i, path in enumerate(("/dev/mem", "/dev/pts/../null", "/dev/pts/", "/dev/pts/ptmx",
                                  "/dev/pts/99999", "/dev/pts/-1", "0")):
            self.vm(f"vm{i}", chardev("pty:" + path))
            self.assertIn("expected a pseudo-terminal of the VM", self.error(4, f"vm{i}", "console"))

    def test_somebody_elses_terminal_gets_no_keys(self):
        code = "import os, pty; m, s = pty.openpty(); print(os.ttyname(s), flush=True); input()"
        other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        path = other.stdout.readline().strip()
        self.vm("web", chardev("pty:" + path))
        self.assertIn(f"{path}: expected a pseudo-terminal of the VM", self.error(4, "web", "console"))
        other.communicate("\n")


class Top(CtlTest):
    def setUp(self):
        super().setUp()
        self.count = 0
        self.vm("web", {
            "query-stats": self.stats,
            "query-blockstats": [{"device": f"disk{i}", "stats": {}} for i in range(4)]})

    def stats(self, _arguments, _connection):
        self.count += 1
        return [{"qom-path": f"/cpu{i}",
                 "stats": [{"name": f"reason{k}_exits", "value": self.count * 100 * (k + 1)}
                           for k in range(12)]} for i in range(8)]

    def page(self, terminal):
        """The next page that is drawn, as lines."""
        terminal.expect(rb"\x1b\[H")
        page = terminal.expect(rb"\x1b\[J")
        self.assertEqual(page.count(b"\x1b"), page.count(b"\x1b[K\r\n"))
        return page.replace(b"\x1b[K", b"").decode().split("\r\n")[:-1]

    def test_page_fits_the_terminal(self):
        terminal = Terminal(self, "web", "top", "--interval", "0.1", rows=24, columns=80)
        terminal.expect(rb"\x1b\[H\x1b\[J")
        lines = self.page(terminal)
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(len([line for line in lines if re.match(r" *[0-7]  ", line)]), 8)
        self.assertIn("reason11", lines[3])
        for rows, columns in ((12, 50), (5, 40), (60, 200), (2, 10)):
            terminal.resize(rows, columns)
            terminal.process.send_signal(signal.SIGWINCH)
            for _ in range(3):
                lines = self.page(terminal)
            self.assertLessEqual(max(map(len, lines)), max(columns, 40), lines)
            if rows > 8:
                self.assertLess(len(lines), rows, lines)
        terminal.send(b"q")
        self.assertEqual(terminal.wait(), 0)

    def test_signals_restore_the_terminal(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            terminal = Terminal(self, "web", "top", "--interval", "0.1")
            self.page(terminal)
            terminal.process.send_signal(number)
            self.assertEqual(terminal.wait(), 0)

    def test_vm_that_ends_restores_the_terminal(self):
        terminal = Terminal(self, "web", "top", "--interval", "0.1")
        self.page(terminal)
        threading.Timer(0.1, self.vms[0].close).start()
        self.assertEqual(terminal.wait(), 4)
        terminal.expect(b"web: the connection has ended")


class PowerOff(CtlTest):
    def test_ctrl_c_leaves_the_vm_alone(self):
        def press(_arguments, connection):
            event(connection, "POWERDOWN")
            return {}
        vm = self.vm("web", {"system_powerdown": press})
        terminal = Terminal(self, "web", "power-off")
        while not vm.asked("system_powerdown"):
            time.sleep(0.01)
        terminal.send(b"\x03")
        self.assertEqual(terminal.wait(), -signal.SIGINT)
