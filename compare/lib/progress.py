# SPDX-License-Identifier: Apache-2.0
"""
How far a run is. A program at the top shows it: on a terminal one line, rewritten each second; in
a log a line a minute. One that was started by another (in the emulated host, by compare/all) sends
it there, as lines on stderr: `progress: DONE LEFT TEXT`, in seconds, and `progress: end` when it
ends by itself.
"""

import os
import re
import sys
import threading
import time

SENDS = "MINIVMM_COMPARE_PROGRESS"
LINE = re.compile(r"progress: (?:(end)|(\d+) (\d+) (.*))$")
SEND_S = 5
LOG_S = 60


def duration(seconds):
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


class Meter:
    """What is to be done, and how long it takes: items have a key; those alike have the same."""

    def __init__(self, items):
        """`items`: (key, seconds it is thought to take)"""
        self.left = list(items)
        self.estimates = dict(self.left)
        self.spent = {}
        self.done_s = 0.0

    def done(self, key, seconds):
        self.drop(key)
        self.spent.setdefault(key, []).append(seconds)
        self.done_s += seconds

    def drop(self, key):
        """One of these need not be done."""
        for i, (other, _) in enumerate(self.left):
            if other == key:
                del self.left[i]
                return

    def left_s(self):
        known = sum(len(times) * self.estimates[key] for key, times in self.spent.items())
        scale = self.done_s / known if known else 1
        return sum(sum(self.spent[key]) / len(self.spent[key]) if key in self.spent
                   else seconds * scale for key, seconds in self.left)


class Display:
    """Shows or sends a state that others set; a thread of its own keeps it going."""

    def __init__(self, out=sys.stderr):
        self.out = out
        self.sends = bool(os.environ.get(SENDS))
        self.rewrites = not self.sends and out.isatty()
        self.state = (0.0, 0.0, "")
        self.since = time.monotonic()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.shown = ""
        self.thread = threading.Thread(target=self._keep_going, daemon=True)
        self.thread.start()

    def set(self, done_s, left_s, text):
        with self.lock:
            self.state = (done_s, left_s, text)
            self.since = time.monotonic()

    def say(self, text):
        """A line that stays, without harm to the display."""
        with self.lock:
            self._write(("\r\x1b[K" if self.shown else "") + text + "\n")
            self.shown = ""

    def close(self):
        self.ended.set()
        self.thread.join()
        with self.lock:
            if self.sends:
                self._write("progress: end\n")
            elif self.shown:
                self._write("\r\x1b[K")

    def _now(self):
        done_s, left_s, text = self.state
        passed = time.monotonic() - self.since
        return done_s + passed, max(left_s - passed, 0), text

    def _keep_going(self):
        period = 1 if self.rewrites else SEND_S if self.sends else LOG_S
        while not self.ended.wait(period):
            with self.lock:
                self._show()

    def _show(self):
        done_s, left_s, text = self._now()
        if self.sends:
            self._write(f"progress: {done_s:.0f} {left_s:.0f} {text}\n")
        elif text:
            percent = 100 * done_s / max(done_s + left_s, 1)
            line = f"{percent:3.0f} %, {duration(left_s)} left: {text}"
            self.shown = line if self.rewrites else ""
            self._write(f"\r\x1b[K{line[:99]}" if self.rewrites else line + "\n")

    def _write(self, text):
        try:
            self.out.write(text)
            self.out.flush()
        except OSError:
            pass  # nobody looks any more


def follow(stream, display, heard=None):
    """
    Read what a program writes to its stderr, to the end: its progress goes to `display`, the rest
    is printed. True if it said that it ended by itself. `heard()` is called at each line.
    """
    ended = False
    for line in stream:
        if heard:
            heard()
        match = LINE.match(line.rstrip("\r\n"))
        if not match:
            display.say(line.rstrip("\r\n"))
        elif match[1]:
            ended = True
        else:
            display.set(float(match[2]), float(match[3]), match[4])
    return ended
