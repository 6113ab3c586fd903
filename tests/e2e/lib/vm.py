# SPDX-License-Identifier: Apache-2.0
"""One VMM process and its console: an expect in the standard library."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

# Generous: emulated hosts on busy machines are slow, and a time-out is only ever a failure.
BOOT_TIMEOUT_S = 240
TIMEOUT_S = 180
DRAINED_S = 0.2
TAIL = 300
F_SETPIPE_SZ = 1031  # not in Python 3.9's fcntl

# A message of the guest's kernel. It may come between any two bytes of what the guest's programs
# print: both go to the same port.
KERNEL_MESSAGE = re.compile(rb"\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? [^\n]*\n")


def without_kernel(data):
    return KERNEL_MESSAGE.sub(b"", data)


def skip_kernel(data, start, length):
    """Where in `data` the first `length` bytes from `start` on end, kernel messages not counted."""
    end = start + length
    for message in KERNEL_MESSAGE.finditer(data, start):
        if message.start() >= end:
            break
        end += len(message.group())
    return end


class VmError(Exception):
    pass


class Vm:
    """
    A VMM that runs from construction to close().

    console="pipe": stdin and stdout are pipes; "pty": a terminal; "null": stdin is /dev/null,
    stdout a pipe; "none": stdin is /dev/null and stdout goes to the log. stderr always goes to the
    log's sibling, *.stderr.log.
    """

    def __init__(self, argv, log, console="pipe"):
        self.output = b""
        self.position = 0
        self.commands = 0
        self.log = open(log, "wb")
        self.log.write(f"$ {' '.join(argv)}\n".encode())
        self.log.flush()
        self.stderr_path = log[:-len(".log")] + ".stderr.log"
        self.terminal = None
        stdout = subprocess.PIPE
        stdin = subprocess.PIPE if console == "pipe" else subprocess.DEVNULL
        if console == "none":
            stdout = self.log
        if console == "pty":
            master, self.terminal = pty.openpty()
            stdin = stdout = self.terminal
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
                preexec_fn=self.take_terminal if console == "pty" else None)
        if console == "pty":
            self.reader = self.writer = master
        else:
            self.reader = self.process.stdout.fileno() if self.process.stdout else None
            self.writer = self.process.stdin.fileno() if self.process.stdin else None

    @staticmethod
    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- console

    def read_some(self, timeout):
        """Read what there is, waiting at most `timeout`. Returns False at the end of output."""
        if not select.select([self.reader], [], [], max(timeout, 0))[0]:
            return True
        try:
            data = os.read(self.reader, 65536)
        except OSError:  # a terminal whose other side is closed
            data = b""
        self.output += data
        self.log.write(data)
        self.log.flush()
        return bool(data)

    def drain(self):
        """Read until nothing comes for a moment."""
        while select.select([self.reader], [], [], DRAINED_S)[0] and self.read_some(0):
            pass

    def expect(self, pattern, timeout=TIMEOUT_S):
        """Wait until a regular expression matches after what was matched last; the match."""
        return self.wait_for(pattern, timeout, self.match)

    def expect_program(self, pattern, timeout=TIMEOUT_S):
        """The same in what the guest's programs print, as if its kernel printed nothing."""
        return self.wait_for(pattern, timeout, self.match_program)

    def match(self, regex):
        match = regex.search(self.output, self.position)
        if match:
            self.position = match.end()
        return match

    def match_program(self, regex):
        match = regex.search(without_kernel(self.output[self.position:]))
        if match:
            self.position = skip_kernel(self.output, self.position, match.end())
        return match

    def wait_for(self, pattern, timeout, find):
        regex = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        deadline = time.monotonic() + timeout
        open_still = True
        while True:
            match = find(regex)
            if match:
                return match
            left = deadline - time.monotonic()
            if left <= 0:
                raise VmError(self.story(f"no {pattern!r} in {timeout} s"))
            if not open_still:
                self.process.wait(TIMEOUT_S)
                raise VmError(self.story(f"ended before {pattern!r}"))
            # Noticing the end also where a terminal stays open because we hold its other side.
            ended = self.process.poll() is not None
            open_still = self.read_some(0 if ended else min(left, 0.5))
            if ended and not select.select([self.reader], [], [], 0)[0]:
                open_still = False

    def story(self, what):
        tail = self.output[self.position:][-TAIL:].decode(errors="replace").split("\n")
        tail = " | ".join(line.strip() for line in tail if line.strip())[-TAIL:]
        stderr = self.stderr().strip().replace("\n", " | ")
        status = self.process.poll()
        parts = [what]
        if status is not None:
            parts.append(f"exit status {status}")
        if stderr:
            parts.append(f"stderr: {stderr[-TAIL:]}")
        parts.append(f"console: …{tail}")
        return "; ".join(parts)

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def send(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            # Reading meanwhile, so that an echo that fills the pipe cannot block both sides.
            readable, writable, _ = select.select([self.reader], [self.writer], [], TIMEOUT_S)
            if readable and not self.read_some(0):
                raise VmError(self.story("ended before its input was sent"))
            if writable:
                data = data[os.write(self.writer, data[:256]):]
            elif not readable:
                raise VmError(self.story("takes no input"))

    def boot(self, timeout=BOOT_TIMEOUT_S):
        """Wait until a busybox guest is in user space."""
        self.expect("minivmm-guest: userspace", timeout)

    def shell(self):
        """Wait for the prompt of a busybox guest with do=shell, or of a root login."""
        self.expect_program(r"guest# |root@minivmm:~# ")

    def sh(self, command, timeout=TIMEOUT_S):
        """Run a command line in the guest's shell. Returns its status and its output."""
        self.commands += 1
        # Typed in two words and printed as one: the echo of what is typed is no marker.
        begin, end = f"BEGIN-{self.commands}:", f"END-{self.commands}:"
        self.send(f"echo '{begin[:5]}''{begin[5:]}'; {command}; echo '{end[:3]}''{end[3:]}'$?:\n")
        match = self.expect_program(rf"(?s){begin}\r*\n(.*?){end}(\d+):\r*\n", timeout)
        self.shell()
        output = match.group(1).replace(b"\r", b"").decode(errors="replace")
        return int(match.group(2)), output

    def shrink_pipe(self):
        """Make the output pipe as small as it can be: it is full soon when nobody reads."""
        fcntl.fcntl(self.reader, F_SETPIPE_SZ, 4096)

    def login(self):
        """Log in as root on a Debian, to a shell that has the console to itself."""
        self.expect_program("minivmm login: ", BOOT_TIMEOUT_S)
        self.send("root\n")
        self.expect_program("root@minivmm:~# ", BOOT_TIMEOUT_S)
        # systemd prints no more about units that it starts (signal SIGRTMIN+21, which bash knows as
        # RTMAX-9), the kernel nothing short of a panic.
        self.send("kill -s RTMAX-9 1; dmesg -n 1; ")
        # No line editing, no colours: what comes back is what was typed.
        self.send("PS1='gue''st# ' TERM=dumb exec sh\n")
        self.expect_program("guest# ")

    # ---- process

    def resize(self, columns, rows):
        """The user changes the size of the terminal that the VMM runs on."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def signal(self, number):
        self.process.send_signal(number)

    def descendants(self):
        """The processes that minivmm started, and those that they did."""
        found, last = [], [self.process.pid]
        while last:
            children = []
            for pid in last:
                try:
                    for thread in os.listdir(f"/proc/{pid}/task"):
                        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                            children += [int(child) for child in file.read().split()]
                except OSError:  # it has ended
                    continue
            found += children
            last = children
        return found

    def kill(self):
        """SIGKILL, then the rest of what it had printed."""
        self.process.kill()
        self.process.wait()
        self.drain()

    def wait(self, timeout=TIMEOUT_S):
        """Read until it ends. Returns the exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise VmError(self.story(f"has not ended in {timeout} s"))
            if self.reader is None or not self.read_some(0.2):
                time.sleep(0.05)
        while self.reader is not None and select.select([self.reader], [], [], 0)[0]:
            if not self.read_some(0):
                break
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        if self.terminal is not None:
            os.close(self.terminal)
            os.close(self.reader)
            self.terminal = None
        self.log.close()
