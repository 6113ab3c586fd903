# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: systemd can read it, and its exit codes are those of minivmm."""

import configparser
import os
import re
import shutil
import subprocess
import unittest

from fake_vm import ROOT, CtlTest

UNIT = os.path.join(ROOT, "configs", "minivmm@.service")
INSTALLED = "/usr/local/bin/minivmm"


class Unit(CtlTest):
    def read(self):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read(UNIT)
        return parser["Service"]

    def exit_code(self, name):
        with open(os.path.join(ROOT, "vmm", "config", "config.h"), encoding="utf-8") as f:
            return re.search(rf"\b{name} = (\d+)", f.read()).group(1)

    def test_reboot_starts_the_guest_again(self):
        service = self.read()
        self.assertEqual(service["RestartForceExitStatus"], self.exit_code("EXIT_REBOOT"))
        self.assertEqual(service["SuccessExitStatus"], self.exit_code("EXIT_REBOOT"))

    def test_the_end_has_time_before_sigkill(self):
        with open(os.path.join(ROOT, "vmm", "process", "ending.h"), encoding="utf-8") as f:
            close = int(re.search(r"ENDING_CLOSE_S (\d+)", f.read()).group(1))
        self.assertGreater(int(self.read()["TimeoutStopSec"]), 60 + close)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
    def test_systemd_takes_it(self):
        path = os.path.join(self.runtime, "minivmm@.service")
        program = os.path.join(os.path.dirname(self.program), "minivmm")
        with open(UNIT, encoding="utf-8") as source, open(path, "w", encoding="utf-8") as copy:
            text = source.read()
            self.assertIn(f"ExecStart={INSTALLED} ", text)
            copy.write(text.replace(INSTALLED, program))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no",
                               path.replace("@", "@web")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_options_are_minivmm_s(self):
        program = os.path.join(os.path.dirname(self.program), "minivmm")
        text = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10,
                              check=True).stdout
        for option in re.findall(r" (--[a-z-]+)", self.read()["ExecStart"]):
            self.assertIn(option + " ", text)
