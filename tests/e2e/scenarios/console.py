# SPDX-License-Identifier: Apache-2.0
"""The serial console: terminals, pipes, files, sockets; and the command line's errors."""

import os
import re
import termios
import time

from lib.connect import connect
from lib.testing import scenario
from lib.vm import Vm

ENDED_BY_USER = 4
SET_UP_FAILED, USAGE_ERROR = 1, 2


@scenario(seconds=15)
def keys_and_terminal(t):
    """Ctrl-C reaches the guest, Ctrl-A is the escape key, the terminal is restored at the end."""
    with t.busybox(do="shell", console="pty") as vm:
        before = termios.tcgetattr(vm.terminal)
        vm.shell()
        t.check(not termios.tcgetattr(vm.terminal)[3] & termios.ICANON, "the terminal is not raw")
        vm.send("echo run''ning; sleep 1000\n")
        vm.expect("running")
        vm.send("\x03")
        vm.shell()
        vm.send("\x01h")
        vm.expect(r"Ctrl-A x|C-a x")
        # Ctrl-A twice is one Ctrl-A for the guest: cat shows it as ^A.
        vm.send("cat -v\n")
        vm.expect("cat -v")
        vm.send("\x01\x01b\n")
        vm.expect(r"\^Ab")
        vm.send("\x04")
        vm.shell()
        vm.send("\x01x")
        t.equal(vm.wait(), ENDED_BY_USER, "exit status after Ctrl-A x")
        t.equal(termios.tcgetattr(vm.terminal), before, "terminal settings")


@scenario(seconds=15)
def end_of_input_does_not_end_the_vm(t):
    """With /dev/null and with a closed pipe for stdin the guest runs to its end."""
    with t.busybox(console="null") as vm:
        vm.boot()
        t.equal(vm.wait(), 0, "exit status with stdin from /dev/null")
    with t.busybox(do="shell") as vm:
        vm.shell()
        vm.send("sleep 3; echo la''ter; poweroff -f\n")
        vm.process.stdin.close()
        vm.expect("later")
        t.equal(vm.wait(), 0, "exit status after the pipe was closed")


@scenario(seconds=20)
def blocked_stdout_loses_nothing(t):
    """A reader that stops for a while gets every line in the end."""
    with t.busybox(do="shell") as vm:
        vm.shrink_pipe()
        vm.shell()
        vm.send("seq 1 5000; poweroff -f\n")
        vm.expect("poweroff")
        time.sleep(8)
        t.equal(vm.wait(), 0, "exit status")
        numbers = [int(n) for n in re.findall(rb"^(\d+)\r*$", vm.output, re.M)]
        t.check(numbers == list(range(1, 5001)),
                f"{len(numbers)} of 5000 lines came, the last is {numbers[-1:]}")


def echo_over(t, read, write):
    """Log in on the shell behind two functions and see that it answers."""
    output = b""
    deadline = time.monotonic() + 240
    sent = False
    while b"sum 42" not in output:
        t.check(time.monotonic() < deadline, f"no answer, only {output[-200:]!r}")
        output += read()
        if b"guest# " in output and not sent:
            write(b"echo sum $((6 * 7)); poweroff -f\n")
            sent = True


@scenario(seconds=15)
def serial_to_a_file(t):
    """--serial file: the console goes to the file."""
    with t.busybox("--serial", "file:" + t.path("serial.log"), console="none") as vm:
        t.equal(vm.wait(), 0, "exit status")
    with open(t.path("serial.log"), "rb") as f:
        t.check(b"minivmm-guest: userspace" in f.read(), "the greeting is not in the file")


@scenario(seconds=15)
def serial_on_a_socket(t):
    """--serial unix: a client talks to the guest."""
    path = t.path("s")
    with t.busybox("--serial", "unix:" + path, do="shell", console="none") as vm:
        with connect(path) as client:
            client.settimeout(240)
            client.sendall(b"\n")
            echo_over(t, lambda: client.recv(65536), client.sendall)
        t.equal(vm.wait(), 0, "exit status")
    t.check(not os.path.exists(path), "the socket is still there")


@scenario(seconds=15)
def serial_on_a_pty(t):
    """--serial pty: minivmm names the terminal, and the guest answers there."""
    with t.busybox("--serial", "pty", do="shell", console="null") as vm:
        deadline = time.monotonic() + 30
        while not (name := re.search(r"/dev/pts/\d+", vm.output.decode() + vm.stderr())):
            t.check(time.monotonic() < deadline, "no terminal was named")
            vm.read_some(0.2)
        terminal = os.open(name.group(), os.O_RDWR | os.O_NOCTTY)
        try:
            mode = termios.tcgetattr(terminal)
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(terminal, termios.TCSANOW, mode)
            os.write(terminal, b"\n")
            echo_over(t, lambda: os.read(terminal, 65536), lambda data: os.write(terminal, data))
        finally:
            os.close(terminal)
        t.equal(vm.wait(), 0, "exit status")


@scenario(seconds=5, guest=[])
def kernel_messages_are_no_part_of_results(t):
    """What a command prints is told from what the guest's kernel prints in the middle of it."""
    message = "[   96.539669] powernow_k8: [Firmware Bug]: not supported\r\n"
    # A shell here stands for the guest.
    guest = ("(while printf \"$KERNEL\"; do sleep 0.01; done) & "
             "export PS1=\"gue$(printf \"$KERNEL\")\nst# \"; exec sh -i 2>&1")
    with Vm(["env", f"KERNEL={message}", "sh", "-c", guest], t.path("vm0.log")) as vm:
        vm.shell()
        for i in range(50):
            result = vm.sh(f"printf \"4${{KERNEL}}2\\n$KERNEL\"; (exit {i})")
            t.equal(result, (i, "42\n"), "status and output")
        vm.send("exit\n")
        t.equal(vm.wait(), 0, "exit status of the shell")


@scenario(seconds=5)
def bad_input_is_one_line(t):
    """What cannot start ends with its status and one line on stderr that names the culprit."""
    kernel = t.guest_file("vmlinuz")
    for name, content in (("text", b"no kernel\n" * 1000), ("small.qcow2", b"QFI\xfb\0\0\0\x03"),
                          ("empty", b"")):
        with open(t.path(name), "wb") as f:
            f.write(content)
    with open(kernel, "rb") as f, open(t.path("cut"), "wb") as cut:
        cut.write(f.read(1 << 20))
    cases = [
        (["--kernel", t.path("absent")], SET_UP_FAILED, "absent"),
        (["--kernel", t.path("text")], SET_UP_FAILED, "text"),
        (["--kernel", t.path("cut")], SET_UP_FAILED, "cut"),
        (["--kernel", t.path("empty")], SET_UP_FAILED, "empty"),
        (["--kernel", kernel, "--initrd", t.path("absent")], SET_UP_FAILED, "absent"),
        (["--kernel", kernel, "--disk", t.path("absent")], SET_UP_FAILED, "absent"),
        (["--kernel", kernel, "--disk", t.path("small.qcow2")], SET_UP_FAILED, "small.qcow2"),
        (["--kernel", kernel, "--disk", t.path("text") + ",format=qcow2"], SET_UP_FAILED, "text"),
        (["--kernel", kernel, "--disk", t.path("text") + ",format=vmdk"], USAGE_ERROR, "vmdk"),
        (["--kernel", kernel, "--disk", t.path("text") + ",colour=red"], USAGE_ERROR, "colour"),
        (["--kernel", kernel, "--memory", "12Q"], USAGE_ERROR, "12Q"),
        (["--kernel", kernel, "--memory", "1M"], USAGE_ERROR, "1M"),
        (["--kernel", kernel, "--cpus", "0"], USAGE_ERROR, "0"),
        (["--kernel", kernel, "--serial", "tape"], USAGE_ERROR, "tape"),
        (["--kernel", kernel, "--frobnicate"], USAGE_ERROR, "--frobnicate"),
        ([], USAGE_ERROR, "--kernel"),
    ]
    for args, status, word in cases:
        with t.vm(*args, console="null") as vm:
            what = " ".join(os.path.basename(a) for a in args) or "no option"
            t.equal(vm.wait(30), status, f"exit status of {what}")
            lines = vm.stderr().strip().split("\n")
            t.check(len(lines) == 1 and word in lines[0],
                    f"{what}: expected one line with {word!r}, got {lines}")
