# SPDX-License-Identifier: Apache-2.0
"""What the shells offer."""

import os
import shutil
import subprocess
import unittest

from fake_vm import ROOT, CtlTest

# Runs the completion function as bash does, for a line whose last word is begun.
BASH = r"""
source "$1"
shift
compopt() { echo "$*" >&2; }
function=$1
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"$function"
printf '%s\n' "${COMPREPLY[@]}"
"""

# compadd prints what it is given and begins like the word; _files says so.
ZSH = r"""
compadd() { print -l -- ${(M)${(P)@[-1]}:#$words[CURRENT]*}; }
_files() { print FILES; }
file=$1
shift
words=("$@")
CURRENT=$#
source "$file"
"""


def completion(name):
    return os.path.join(ROOT, "configs", "completion", name)


class Shells:
    def complete(self, program, *words):
        """What is offered for the last word of a command line."""
        raise NotImplementedError

    def offered(self, *words):
        return self.complete("minivmm-ctl", *words)

    def minivmm(self, *words):
        return self.complete("minivmm", *words)

    def test_minivmm(self):
        self.assertEqual(self.minivmm("--kaslr", ""), ["on", "off"])
        self.assertEqual(self.minivmm("--memory", "1G", "--hugepages", "2"), ["2M"])
        self.assertEqual(self.minivmm("--kernel", ""), self.files)
        self.assertIn("--kernel-cache", self.minivmm("--k"))
        self.assertEqual(self.minivmm("--on-reboot", "ex"), ["exit"])

    def test_words_of_minivmm_are_no_patterns(self):
        for word in ("--kernel=/boot/x", "--kaslr/", "--ka.*", "--[a"):
            with self.subTest(word=word):
                self.assertEqual(self.minivmm(word, ""), self.files)
                self.assertNotIn("sed", self.errors)

    def test_commands_and_vms(self):
        self.vm("web")
        self.vm("web2")
        self.vm("gone").close()
        self.assertEqual(self.offered(""), ["list", "web", "web2"])
        self.assertEqual(self.offered("w"), ["web", "web2"])
        self.assertEqual(self.offered("web", "p"), ["power-off", "pause"])
        self.assertIn("throttle", self.offered("web", ""))
        self.assertEqual(self.offered("--json", "--timeout", "3", "web", "stat"), ["status"])

    def test_disks_and_limits(self):
        self.vm("web")
        self.assertEqual(self.offered("web", "resize", ""), ["disk0", "disk1"])
        self.assertEqual(self.offered("web", "throttle", "disk0", "iops_r"),
                         ["iops_rd=", "iops_rd_max=", "iops_rd_max_length="])

    def test_options(self):
        self.assertEqual(self.offered("web", "power-off", "--"), ["--json", "--timeout", "--force"])
        self.assertEqual(self.offered("--j"), ["--json"])

    def test_commands_of_qmp(self):
        self.vm("web")
        self.assertEqual(self.offered("web", "qmp", "query-b"), ["query-block"])

    def test_a_vm_that_hangs_keeps_nobody_long(self):
        self.vm("web", greeting=None)
        self.assertEqual(self.offered("web", "resize", ""), self.files)


class Bash(Shells, CtlTest):
    files = [""]

    def complete(self, program, *words):
        path = os.path.join(os.path.dirname(self.program), program)
        done = subprocess.run(["bash", "-c", BASH, "bash", completion(program + ".bash"),
                               "_" + program.replace("-", "_"), path, *words], env=self.env, capture_output=True,
                              timeout=10, check=True, text=True)
        self.errors = done.stderr
        self.options = done.stderr.split("\n")[:-1]
        return done.stdout.split("\n")[:-1]

    def test_keys_of_a_disk(self):
        self.assertEqual(self.minivmm("--disk", "a.qcow2,ca"), ["a.qcow2,cache="])
        self.assertEqual(self.options, ["-o nospace"])
        self.assertIn("a.qcow2,readonly=", self.minivmm("--disk", "a.qcow2,"))
        # "a.qcow2,cache=none" is three words where '=' breaks words.
        for value, offered in (("", ["writeback", "none", "unsafe"]), ("n", ["none"])):
            words = ["--disk", "a.qcow2,cache", "=", value]
            self.assertEqual(self.minivmm(*words[:3 + bool(value)]), offered)
        self.assertEqual(self.minivmm("--disk", "a,cache", "=", "none,aio", "=", "io"), ["io_uring"])
        self.assertEqual(self.minivmm("--disk", "a,cache", "=", "none,werr"), ["none,werror="])
        self.assertEqual(self.minivmm("--disk", "=", "a.qcow2,dis"), ["a.qcow2,discard="])
        self.assertEqual(self.minivmm("--vsock", "pa"), ["path="])

    def test_keys_that_there_are_not(self):
        for words in (("--disk", "a,x"), ("--disk", "a,no/key", "=", "x"), ("--disk", "a,bps", "=", ""),
                      ("--disk", "a"), ("--kernel", "a,b")):
            with self.subTest(words=words):
                self.assertEqual(self.minivmm(*words), self.files)
                self.assertEqual(self.options[-1], "-o default")

    def test_how_words_end(self):
        self.vm("web")
        self.assertEqual(self.offered("web", "throttle", "disk0", "iops_s"), ["iops_size="])
        self.assertEqual(self.options, ["-o nospace"])
        self.assertEqual(self.offered("web", "snapshot", "disk0", ""), [""])
        self.assertEqual(self.options, ["-o default"])
        self.assertEqual(self.offered("web", "throttle", "disk0", "iops", "="), [""])
        self.assertEqual(self.offered("web", "throttle", "disk0", "iops", "=", "1"), [""])


@unittest.skipUnless(shutil.which("zsh"), "there is no zsh")
class Zsh(Shells, CtlTest):
    files = ["FILES"]

    def complete(self, program, *words):
        path = os.path.join(os.path.dirname(self.program), program)
        done = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", completion("_" + program), path,
                               *words], env=self.env, capture_output=True,
                              timeout=10, check=True, text=True)
        self.errors = done.stderr
        return done.stdout.split("\n")[:-1]
