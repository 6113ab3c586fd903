# SPDX-License-Identifier: Apache-2.0
"""A network without a network: namespaces of an ordinary user, in which VMMs and servers run.

The namespace has what a host on the Internet has, addresses, routes and a resolver, but the Internet is
lib/services.py, at addresses of its own.
"""

import os
import select
import subprocess
import sys

from lib import services

USER = 1000
HOST4, GATEWAY4 = "192.0.2.2", "192.0.2.1"
HOST6, GATEWAY6 = "2001:db8:1::2", "2001:db8:1::1"
WORLD4, WORLD6 = "198.51.100.1", "2001:db8:2::1"
WORLD_NAME = "world.test"
SECRET_PORT = 4444
SECRET = services.SECRET.decode()
TIMEOUT_S = 120

# $1: a resolv.conf. A veth pair is the way out; both of its ends are here.
SET_UP = f"""
set -e
mount --bind "$1" "$(realpath /etc/resolv.conf)"
echo 0 0 >/proc/sys/net/ipv4/ping_group_range
ip link set lo up
ip address add {WORLD4}/32 dev lo
ip address add {WORLD6}/128 dev lo
ip link add outside type veth peer name beyond
ip address add {HOST4}/24 dev outside
ip address add {HOST6}/64 dev outside nodad
ip address add {GATEWAY4}/24 dev beyond
ip link set outside up
ip link set beyond up
ip route add default via {GATEWAY4} dev outside
ip route add default via {GATEWAY6} dev outside
echo ready
exec sleep 1000000
"""


def as_user():
    """Begins a command line that an ordinary user runs."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.getuid() == 0 \
        else []


class Network:
    """Made by construction, gone at the end of `with`. `t` is the scenario's test."""

    def __init__(self, t):
        self.t = t
        self.processes = []
        self.count = 0
        with open(t.path("resolv.conf"), "w", encoding="utf-8") as f:
            f.write(f"nameserver {WORLD4}\n")
        self.share_files()
        self.holder = self.start([*as_user(), "unshare", "-Urnm", "bash", "-c", SET_UP,
                                  "bash", t.path("resolv.conf")], "network")
        self.start(self.argv(sys.executable, services.__file__, WORLD4, WORLD6, WORLD_NAME,
                             str(SECRET_PORT)), "services")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.wait()
            process.stdout.close()

    def share_files(self):
        """The user may write to all that is in the scenario's folder."""
        os.chmod(self.t.folder, 0o777)
        for name in os.listdir(self.t.folder):
            os.chmod(self.t.path(name), 0o666)

    def start(self, argv, name):
        """A program that prints "ready" and goes on."""
        with open(self.t.path(name + ".log"), "wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=log, start_new_session=True)
        self.processes.append(process)
        if not select.select([process.stdout], [], [], TIMEOUT_S)[0] or \
                process.stdout.readline().strip() != b"ready":
            with open(log.name, encoding="utf-8", errors="replace") as log:
                self.t.fail(f"{name} did not start: {log.read().strip()[-300:]}")
        return process

    def argv(self, *command):
        """The command line of a command in the network."""
        return [*as_user(), "nsenter", f"--target={self.holder.pid}", "--user", "--net", "--mount",
                "--preserve-credentials", "env", f"HOME={self.t.folder}",
                *command]

    def run(self, *command, statuses=(0,)):
        """Run a program in the network. Returns its stdout."""
        output = self.t.tool(*self.argv(*command), statuses=statuses, shown=command)
        return output.decode(errors="replace")

    def sh(self, script):
        return self.run("bash", "-ec", script)

    def python(self, code, *args):
        """Run Python code in the network."""
        return self.run(sys.executable, "-c", code, *args)
