# SPDX-License-Identifier: Apache-2.0
"""One VMM process with its serial output, and what happened when."""

import os
import select
import signal
import subprocess
import time


class Run:
    """
    Started at the beginning of a with block, killed and reaped at its end. Times are seconds since
    just before exec.
    """

    def __init__(self, argv):
        self.argv = argv
        self.output = b""
        self.last_output = 0.0
        # (bytes of output, when there were so many)
        self.arrivals = []
        self.eof = False

    def __enter__(self):
        self.start = time.monotonic()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        self.pidfd = os.pidfd_open(self.process.pid)
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        os.close(self.pidfd)

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def elapsed(self):
        return time.monotonic() - self.start

    def send(self, text):
        """Type into the serial port."""
        os.write(self.process.stdin.fileno(), text.encode())

    def wait_for(self, marker, timeout_s, begin=0):
        """Seconds until `marker` was printed, at `begin` or later in the output."""
        self._read_until(lambda: marker in self.output[begin:], timeout_s, f"no {marker!r}")
        return self.last_output

    def time_of_last(self, pattern):
        """Seconds until the last match was printed to its end; of all output without any."""
        matches = list(pattern.finditer(self.output))
        end = matches[-1].end() if matches else len(self.output)
        return next((when for size, when in self.arrivals if size >= end), self.last_output)

    def wait_end(self, timeout_s):
        """Seconds until the process ended; its exit status is in process.returncode."""
        self._read_until(lambda: self.eof, timeout_s, "did not end")
        left = max(timeout_s - self.elapsed(), 0)
        if not select.select([self.pidfd], [], [], left)[0]:
            raise TimeoutError(self.failure(f"did not end in {timeout_s} s"))
        seconds = self.elapsed()
        self.process.wait()
        return seconds

    def _read_until(self, reached, timeout_s, what):
        while not reached():
            if self.eof:
                raise RuntimeError(self.failure(f"{what}: ended early"))
            left = timeout_s - self.elapsed()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(self.failure(f"{what} in {timeout_s} s"))
            data = os.read(self.process.stdout.fileno(), 65536)
            if data:
                self.output += data
                self.last_output = self.elapsed()
                self.arrivals.append((len(self.output), self.last_output))
            self.eof = not data

    def failure(self, what):
        """What happened, with the last line that says something; on further lines, those before."""
        tail = self.output[-600:].decode(errors="replace").replace("\r", "")
        lines = [line for line in tail.splitlines() if line.strip()]
        return "\n".join([f"{what}: {lines[-1] if lines else 'no output'}", *lines[:-1]])
