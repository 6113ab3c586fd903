# SPDX-License-Identifier: Apache-2.0
"""What all adapters have in common, whichever VMMs are here."""

import dataclasses
import os
import tempfile
import unittest

from lib import sides
from lib.guest import Disk, Guest

GUEST = Guest(kernel="/the/kernel", initrd="/the/initrd", memory_mib=384, cpus=3,
              cmdline="first second")
# The host itself starts no guest.
VMMS = {name: adapter for name, adapter in sides.adapters().items() if name != "host"}


def told(adapter, guest):
    """All that a VMM is told: its arguments, and the contents of files written for it."""
    with tempfile.TemporaryDirectory() as scratch:
        words = adapter.argv("/the/program", guest, scratch)
        for name in os.listdir(scratch):
            with open(os.path.join(scratch, name), encoding="utf-8") as f:
                words.append(f.read())
    return " ".join(words)


class Adapters(unittest.TestCase):
    def test_has_what_is_asked_of_adapters(self):
        for name, adapter in VMMS.items():
            with self.subTest(name):
                self.assertTrue(adapter.PROGRAM)
                self.assertIn(adapter.ENDS_BY, ("poweroff", "reboot"))
                self.assertIn(adapter.TRIED, (True, False))
                self.assertLessEqual(set(adapter.DISK_FORMATS), {"qcow2", "raw"})

    def test_passes_the_whole_guest_on(self):
        parts = ("/the/program", "/the/kernel", "/the/initrd", "384", "3", "first second")
        for name, adapter in VMMS.items():
            with self.subTest(name):
                text = told(adapter, GUEST)
                self.assertEqual([part for part in parts if part not in text], [])

    def test_names_a_disk_once_and_with_its_access(self):
        for name, adapter in VMMS.items():
            with self.subTest(name):
                disk = Disk("/the/disk", adapter.DISK_FORMATS[0])
                writable = told(adapter, dataclasses.replace(GUEST, disks=(disk,)))
                disk = dataclasses.replace(disk, readonly=True)
                readonly = told(adapter, dataclasses.replace(GUEST, disks=(disk,)))
                self.assertEqual((writable.count("/the/disk"), readonly.count("/the/disk")), (1, 1))
                self.assertNotEqual(writable, readonly)

    def test_minivmm_gets_devices_as_a_case_says(self):
        def devices(**options):
            text = told(VMMS["minivmm"], dataclasses.replace(GUEST, options=options))
            return [name for name in ("--net", "--vsock", "--rng on", "--balloon", "--rtc on")
                    if name in text]

        self.assertEqual(devices(), [])
        self.assertEqual(devices(more_devices=True), ["--net", "--vsock", "--rng on", "--balloon"])
        self.assertEqual(devices(rtc="on"), ["--rtc on"])


if __name__ == "__main__":
    unittest.main()
