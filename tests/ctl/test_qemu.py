# SPDX-License-Identifier: Apache-2.0
"""QEMU is looked after as well: it is the same protocol."""

import json
import os
import shutil
import subprocess
import time
import unittest

from fake_vm import TIMEOUT_S, CtlTest

QEMU = "qemu-system-x86_64"


@unittest.skipUnless(shutil.which(QEMU) and shutil.which("qemu-img"), f"there is no {QEMU}")
class Qemu(CtlTest):
    def setUp(self):
        super().setUp()
        disk = os.path.join(self.runtime, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
        self.process = subprocess.Popen(
            [QEMU, "-M", "q35", "-accel", "tcg", "-m", "64", "-display", "none", "-S",
             "-qmp", f"unix:{self.path('q')},server=on,wait=off", "-serial", "stdio",
             "-drive", f"file={disk},format=qcow2,if=virtio,id=d0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        end = time.monotonic() + TIMEOUT_S
        while not self.json("list"):
            self.assertLess(time.monotonic(), end)

    def test_life(self):
        vm, = self.json("list")
        self.assertEqual((vm["name"], vm["state"], vm["pid"], vm["memory"], vm["cpus"]),
                         ("q", "prelaunch", self.process.pid, 64 << 20, 1))
        self.out("q", "resume")
        self.assertIn("state        running", self.out("q", "status"))
        self.out("q", "reset")
        self.out("q", "pause")
        self.assertEqual(self.json("q", "status")["state"], "paused")
        self.assertIn("start the VM with --serial unix:PATH", self.error(1, "q", "console"))
        self.assertEqual(self.json("q", "power-off", "--force"),
                         {"reason": "host-qmp-quit", "closed": True})
        self.assertEqual(self.process.wait(TIMEOUT_S), 0)

    def test_disks(self):
        self.out("q", "resize", "d0", "+1M")
        self.assertEqual(self.json("q", "status")["disks"][0]["size"], 2 << 20)
        self.out("q", "throttle", "d0", "iops=100", "bps=10M")
        self.assertEqual(self.out("q", "throttle", "d0"), "bps   10 MiB\niops  100\n")
        self.out("q", "snapshot", "d0", "--internal", "tag")
        self.assertEqual(self.out("q", "snapshot", "d0"), "ID  NAME\n 1  tag\n")
        self.out("q", "snapshot", "d0", os.path.join(self.runtime, "overlay.qcow2"))
        self.assertEqual(json.loads(self.out("q", "qmp", "query-block"))[0]["inserted"]["image"]
                         ["backing-image"]["virtual-size"], 2 << 20)
        self.assertIn("d0", self.out("q", "top", "--interval", "0.1"))
