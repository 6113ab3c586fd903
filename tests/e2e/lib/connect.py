# SPDX-License-Identifier: Apache-2.0
"""Connections to a VM's sockets."""

import socket
import time

TIMEOUT_S = 180


def connect(path):
    """A client of a socket, as soon as it is there."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(path)
            return client
        except OSError as error:
            client.close()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path}: {error}") from error
            time.sleep(0.05)
