# SPDX-License-Identifier: Apache-2.0
"""minivmm-img and qemu-img side by side, on images that are made at random or changed meanwhile.

A test is a method of a class derived from `Both`, in a program tests/img/test_NAME that ends with
`both.main()`; tests/img/run runs them all. By itself: [SEED=n] [IMG=program] tests/img/test_NAME
[CLASS[.METHOD]...].
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = os.environ.get("IMG", os.path.join(ROOT, "build/release/minivmm-img"))
THEIRS = "qemu-img"
TIMEOUT_S = 120
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))
SKIP_STATUS = 77

# Started in the background, as shells do that, we would ignore these, and the programs that we start
# too: they leave ignored signals alone.
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


class Result:
    """What a program has said, with its name replaced."""

    def __init__(self, program, process):
        name = os.path.basename(program)
        self.status = process.returncode
        self.out = process.stdout.decode(errors="replace").replace(name, "IMG")
        self.err = process.stderr.decode(errors="replace").replace(name, "IMG")

    def __repr__(self):
        return f"status {self.status}\n{self.out}{self.err}"

    def __eq__(self, other):
        return (self.status, self.out, self.err) == (other.status, other.out, other.err)


def limit_file_size(size):
    """For preexec_fn: no file may become longer. Python ignores the signal, and so does its child."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def is_qcow2(path):
    with open(path, "rb") as f:
        return f.read(4) == b"QFI\xfb"


def copy_file(source, target):
    """
    A copy with the same holes, which are told for sure after a sync; but qcow2 images get none, because
    QEMU takes one with holes for preallocated, and finds zeroes in its clusters.
    """
    with open(source, "rb+") as f, open(target, "wb") as g:
        os.fsync(f)
        size = f.seek(0, os.SEEK_END)
        g.truncate(size)
        end = 0
        while end < size:
            at = end
            try:
                at = at if is_qcow2(source) else os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = size if is_qcow2(source) else os.lseek(f.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.pwrite(g.fileno(), os.pread(f.fileno(), min(end - at, 1 << 20), at), at)
        os.fsync(g)


class Both(unittest.TestCase):
    maxDiff = None
    stdin = subprocess.DEVNULL  # of the programs

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="minivmm-img-")
        self.ours = os.path.join(self.folder, "ours")
        self.theirs = os.path.join(self.folder, "theirs")
        os.mkdir(self.ours)
        os.mkdir(self.theirs)
        self.random = random.Random(SEED)

    def tearDown(self):
        shutil.rmtree(self.folder)

    # ---- files -----------------------------------------------------------------------------------

    def qemu(self, *args):
        """Make files in our folder with QEMU's programs; `share` puts them into theirs."""
        process = subprocess.run(args, cwd=self.ours, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False)
        self.assertEqual(process.returncode, 0, f"{args}: {process.stdout}")
        return process.stdout.decode()

    def io(self, name, *commands, fmt="qcow2"):
        """Change an image with qemu-io."""
        args = [arg for command in commands for arg in ("-c", command)]
        out = self.qemu("qemu-io", "-f", fmt, *args, name)
        self.assertNotIn("failed", out)

    def path(self, name):
        return os.path.join(self.ours, name)

    def share(self):
        """Give both folders copies of all that is in ours."""
        for name in os.listdir(self.ours):
            if os.path.isfile(self.path(name)):
                copy_file(self.path(name), os.path.join(self.theirs, name))
                copy_file(os.path.join(self.theirs, name), self.path(name))
            else:
                os.makedirs(os.path.join(self.theirs, name), exist_ok=True)

    def clear(self, *names):
        for folder in (self.ours, self.theirs):
            for name in names:
                if os.path.exists(os.path.join(folder, name)):
                    os.unlink(os.path.join(folder, name))

    def text(self, size):
        """Words in random order, which can be compressed."""
        words = ["".join(self.random.choices("abcdefghijklmnop", k=self.random.randint(2, 9)))
                 for _ in range(500)]
        return " ".join(self.random.choices(words, k=size // 3)).encode()[:size]

    # ---- running ---------------------------------------------------------------------------------

    def run_one(self, program, folder, args, preexec=None):
        process = subprocess.run([program, *args], cwd=folder, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, stdin=self.stdin,
                                 timeout=TIMEOUT_S, check=False, preexec_fn=preexec)
        return Result(program, process)

    def run_ours(self, *args, preexec=None):
        return self.run_one(OURS, self.ours, args, preexec)

    def run_theirs(self, *args, preexec=None):
        return self.run_one(THEIRS, self.theirs, args, preexec)

    def assert_same(self, *args, preexec=None):
        """Both say the same and end in the same way. Returns what they said."""
        ours = self.run_ours(*args, preexec=preexec)
        theirs = self.run_theirs(*args, preexec=preexec)
        self.assertEqual(repr(ours), repr(theirs), f"{args}: ours, theirs")
        return ours

    def assert_same_json(self, *args):
        ours = self.run_ours(*args)
        theirs = self.run_theirs(*args)
        self.assertEqual((ours.status, ours.err), (theirs.status, theirs.err), f"{args}")
        self.assertEqual(json.loads(ours.out), json.loads(theirs.out), f"{args}")
        return json.loads(ours.out)

    def assert_ok(self, result):
        self.assertEqual(result.status, 0, repr(result))
        return result

    # ---- images ----------------------------------------------------------------------------------

    def image_map(self, folder, name, fmt):
        """
        What qemu-img sees in an image: list of (start, length, depth, zero, data). Whether data of
        qcow2 images is a hole of their file, and so zero, does not count.
        """
        out = subprocess.run(["qemu-img", "map", "--output=json", "-f", fmt, name], cwd=folder,
                             stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=True).stdout
        parts = []
        for e in json.loads(out):
            kind = [e["depth"], e["zero"] and (fmt == "raw" or not e["data"]), e["data"]]
            if parts and parts[-1][2:] == kind and parts[-1][0] + parts[-1][1] == e["start"]:
                parts[-1][1] += e["length"]
            else:
                parts.append([e["start"], e["length"], *kind])
        return parts

    def assert_sound(self, name, fmt):
        """QEMU finds nothing wrong with our image, leaks included."""
        if fmt == "qcow2":
            self.qemu("qemu-img", "check", "-q", "-f", fmt, name)

    def assert_equal_disks(self, name, fmt, other, other_fmt):
        self.qemu("qemu-img", "compare", "-q", "-f", fmt, "-F", other_fmt, name, other)

    def assert_same_image(self, name, fmt):
        """Ours is sound, shows what theirs shows, and has it in the same places of the disk."""
        self.assert_sound(name, fmt)
        self.assert_equal_disks(name, fmt, os.path.join(self.theirs, name), fmt)
        self.assertEqual(self.image_map(self.ours, name, fmt),
                         self.image_map(self.theirs, name, fmt))

    def assert_same_image_within(self, name, fmt, longest):
        """As assert_same_image, but stretches up to `longest` may be stored by one of the two only."""
        maps = [self.image_map(folder, name, fmt) for folder in (self.ours, self.theirs)]
        borders = sorted({at for parts in maps for start, length, *_ in parts
                          for at in (start, start + length)})
        alone = 0
        self.assert_sound(name, fmt)
        self.assert_equal_disks(name, fmt, os.path.join(self.theirs, name), fmt)
        for start, end in zip(borders, borders[1:]):
            kinds = [next(kind for at, length, *kind in parts if at <= start < at + length)
                     for parts in maps]
            alone = 0 if kinds[0] == kinds[1] else alone + end - start
            self.assertLessEqual(alone, longest, f"at {end}: {maps[0]} != {maps[1]}")


class Lines(unittest.TestResult):
    """One line for each test on stdout, as tests/img/run prints them; the whole story on stderr."""

    def fail(self, test, err):
        reason = str(err[1]).split("\n", 1)[0]
        print(f"FAIL {test}: {reason}", flush=True)
        sys.stderr.write("".join(traceback.format_exception(*err)) + f"SEED={SEED}\n")

    def addSuccess(self, test):
        super().addSuccess(test)
        print(f"PASS {test.id().replace('__main__.', '')}", flush=True)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"SKIP {test.id().replace('__main__.', '')}: {reason}", flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.fail(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.fail(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.fail(subtest, err)


def main():
    if shutil.which(THEIRS) is None or shutil.which("qemu-io") is None:
        print("no qemu-img or qemu-io (Debian package qemu-utils)")
        sys.exit(SKIP_STATUS)
    suite = unittest.defaultTestLoader
    names = sys.argv[1:]
    tests = suite.loadTestsFromNames(names, sys.modules["__main__"]) if names \
        else suite.loadTestsFromModule(sys.modules["__main__"])
    result = Lines()
    tests.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
