# SPDX-License-Identifier: Apache-2.0
"""A Debian that is looked after by minivmm-ctl alone."""

import json
import os
import subprocess
import time

from lib.testing import scenario
from lib.vm import Vm

GUEST_OFF = 0
BOOT_S = 400


def ctl(t, *args):
    """What minivmm-ctl prints, as JSON."""
    return json.loads(subprocess.run([t.minivmm + "-ctl", "--json", *args], check=True,
                                     stdout=subprocess.PIPE, timeout=BOOT_S).stdout)


def attach(t, name):
    return Vm([t.minivmm + "-ctl", name, "console"], t.path("console.log"))


def wait_for(t, name):
    deadline = time.monotonic() + 60
    while [vm["name"] for vm in ctl(t, "list")] != [name]:
        t.check(time.monotonic() < deadline, f"{name} is not listed")
        time.sleep(0.1)


@scenario(seconds=90, guest=["debian"])
def debian_is_looked_after(t):
    """Its console, early and late; a pause; its counters; its power button, and its clean end."""
    if not os.path.exists(t.minivmm + "-ctl"):
        t.skip("there is no minivmm-ctl beside minivmm")
    os.makedirs(t.path("run"), mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = t.path("run")
    t.qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", t.guest_file("debian.qcow2"),
               t.path("overlay.qcow2"))
    with t.debian("--disk", t.path("overlay.qcow2") + ",backing=" + t.guest_file(""), "--name", "deb",
                  "--serial", "unix:" + t.path("serial"), console="none") as vm:
        wait_for(t, "deb")
        with attach(t, "deb") as console:
            console.login()
            console.sh("until systemctl -q is-active systemd-logind; do sleep 1; done")
            console.sh("echo last-$((6 * 7))")
        with attach(t, "deb") as console:
            console.expect("last-42")
        ctl(t, "deb", "pause")
        t.equal(ctl(t, "deb", "status")["state"], "paused", "state after pause")
        ctl(t, "deb", "resume")
        t.check(ctl(t, "deb", "top")["vcpus"][0]["exits"] > 0, "no exits are counted")
        end = ctl(t, "--timeout", str(BOOT_S), "deb", "power-off")
        t.equal(end, {"reason": "guest-shutdown", "closed": True}, "how it ended")
        t.equal(vm.wait(), GUEST_OFF, "exit status")
        t.equal(ctl(t, "list"), [], "what is listed afterwards")
    t.check_qcow2("overlay.qcow2")
