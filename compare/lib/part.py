# SPDX-License-Identifier: Apache-2.0
"""
A part of the comparison: cases, each measured for every side in turns, round by round.

A part is a class with what it measures; Part.main() does the rest: options, the emulated host, the
store, who is first in a round, progress, stopping and going on.
"""

import dataclasses
import datetime
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

from lib import guest as guests
from lib import host, paths, results, sides, usage
from lib.progress import Display, Meter, duration
from lib.run import Run
from lib.table import figure, median, table

# After so many failures and no success, a side is left out of a case.
GIVE_UP_AFTER = 2
BOOT_TIMEOUT_S = 180


@dataclasses.dataclass
class Case:
    """
    `measure(attempt)` returns {metric: number}. `prepare(attempt)` is called before, for what does
    not count. `seconds`: about how long a measurement takes in the emulated host. `warm_up`: each
    side measures once before, uncounted. `sides`: those of this case, all by default.
    """
    name: str
    guest: guests.Guest
    measure: object
    seconds: float = 10
    prepare: object = None
    rounds: int = 0
    warm_up: bool = True
    sides: list = None


class Attempt:
    """
    One measurement: a side, its guest with its own disks, and an empty folder. `number` tells apart
    those that are under way at the same time.
    """

    def __init__(self, case, side, kept, number=0):
        self.case, self.side, self.kept = case, side, kept
        self.scratch = os.path.join(kept, f"attempt{number}")
        guests.empty_folder(self.scratch)
        self.guest = guests.prepare_disks(side.guest(case.guest), side.adapter.DISK_FORMATS,
                                          self.scratch, kept)
        self.argv = side.adapter.argv(side.program, self.guest, self.scratch)

    def start(self):
        return Run(self.argv)

    def shown_command(self):
        """The command, and the files that the adapter wrote, with the folder by a name."""
        files = {}
        for name in sorted(os.listdir(self.scratch)):
            path = os.path.join(self.scratch, name)
            is_image = name.startswith("disk")
            if os.path.isfile(path) and os.path.getsize(path) < 65536 and not is_image:
                with open(path, encoding="utf-8", errors="replace") as f:
                    files[name] = f.read().replace(self.scratch, "$SCRATCH")
        argv = [word.replace(self.scratch, "$SCRATCH") for word in self.argv]
        return {"argv": argv, "files": files}


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(*_):
    """Once: nothing interrupts the cleaning up."""
    for signo in SIGNALS:
        signal.signal(signo, signal.SIG_IGN)
    raise KeyboardInterrupt


class Part:
    """Derive from it, and set or define what is marked."""

    name = ""  # of the script and of its file of results
    metrics = ()  # metric() of each
    host_memory_mib = 2048  # of the emulated host
    default_runs = 10
    default_memory_mib = 256
    whole_boots = True  # False: measures what works on any /dev/kvm, on this machine
    runs_jobs = False  # of lib/jobs.py: the host itself can be a side
    guest_maker = "scripts/guest-image makes the guests"
    programs = ()  # of the tests, which the part starts

    def add_options(self, parser):
        """Options of this part."""

    def settings(self):
        """What else has to be the same for samples to stand in one table."""
        return {}

    def files(self):
        """Files besides kernel and initrd that go to the emulated host."""
        return []

    def cases(self):
        """All cases, in the order in which they are measured."""
        raise NotImplementedError

    def set_up(self):
        """Called once where the cases run, before the first."""

    def show(self, found):
        """Print the tables; `found` is a results.Results."""
        show_tables(found)

    # ---- what the scripts call

    def main(self):
        self.args = self.parse()
        try:
            if self.args.show:
                return self.show_again()
            self.sides = self.find_sides()
            usage.need_case(self.chosen_cases(), self.args.only)
            if self.args.list:
                return self.print_list()
            usage.need_files([self.args.kernel, self.args.initrd, *self.files()],
                             self.guest_maker)
            usage.need_files(self.programs, usage.BUILD)
            reason = host.here_reason() if self.whole_boots and not host.inside() else ""
            return self.move(reason) if reason else self.run_here()
        except (results.Refused, FileNotFoundError) as error:
            print(f"{self.name}: {error}", file=sys.stderr)
            return 2

    def show_again(self):
        path = self.store_path()
        if not os.path.exists(path) or not os.path.getsize(path):
            raise results.Refused(f"nothing measured yet in {self.args.out}")
        self.show(results.read(path))
        return 0

    def run_here(self):
        self.display = Display()
        try:
            return self.run()
        finally:
            self.display.close()

    def guest(self, **changes):
        """The guest of the options."""
        args = self.args
        guest = guests.Guest(kernel=args.kernel, initrd=args.initrd, memory_mib=args.memory,
                             cmdline=args.cmdline,
                             options={"kernel_cache": os.path.join(self.kept, "kernel-cache")})
        return dataclasses.replace(guest, **changes)

    def find_sides(self):
        return sides.find(self.args.vmms, self.args.vmm, self.runs_jobs)

    def side(self, name):
        """The side called so, or None."""
        return next((side for side in self.sides if side.name == name), None)

    # ---- options

    def parse(self):
        parser = usage.parser(sys.modules["__main__"].__doc__)
        parser.add_argument("--vmms", type=lambda text: [n for n in text.split(",") if n],
                            default=[], metavar="A,B",
                            help="only these (default: all that are here)")
        parser.add_argument("--vmm", action="append", default=[], metavar="NAME=PATH",
                            help="the program of one")
        parser.add_argument("--runs", type=usage.positive, default=self.default_runs, metavar="N",
                            help="measurements of each case and VMM (%(default)s)")
        parser.add_argument("--out", default=paths.RUN, metavar="FOLDER", type=os.path.abspath,
                            help="results; a run that was stopped goes on in it (%(default)s)")
        parser.add_argument("--only", default="", type=usage.regex, metavar="REGEX",
                            help="cases with a match")
        parser.add_argument("--kernel", default=f"{paths.GUEST}/vmlinuz", metavar="FILE")
        parser.add_argument("--initrd", default=f"{paths.GUEST}/initramfs-busybox.cpio.gz",
                            metavar="FILE")
        parser.add_argument("--memory", type=usage.positive, default=self.default_memory_mib,
                            metavar="MIB")
        parser.add_argument("--cmdline", default=guests.CMDLINE, metavar="TEXT")
        parser.add_argument("--retry", action="store_true", help="measure what failed once more")
        parser.add_argument("--list", action="store_true", help="print the cases and end")
        parser.add_argument("--show", action="store_true", help="print the results so far and end")
        self.add_options(parser)
        return parser.parse_args()

    @property
    def kept(self):
        """A folder for what lasts as long as the run."""
        return os.path.join(self.args.out, paths.SCRATCH, self.name)

    def store_path(self):
        return os.path.join(self.args.out, self.name + ".jsonl")

    # ---- the run

    def chosen_cases(self):
        return [case for case in self.cases() if re.search(self.args.only, case.name)]

    def plan(self):
        """(case, side, round) of all that is to be measured, in order. Round 0 is not counted."""
        steps = []
        for case in self.chosen_cases():
            case_sides = self.sides if case.sides is None else case.sides
            rounds = case.rounds or self.args.runs
            for number in range(0 if case.warm_up else 1, rounds + 1):
                first = (number + len(steps)) % max(len(case_sides), 1)
                steps += [(case, side, number) for side in case_sides[first:] + case_sides[:first]]
        return steps

    def print_list(self):
        steps = self.plan()
        for case in self.chosen_cases():
            labels = [side.label for side in (self.sides if case.sides is None else case.sides)]
            print(f"{case.name}: {'; '.join(labels)}")
        total = sum(case.seconds for case, _, _ in steps)
        print(f"about {total:.0f} s: {duration(total)}")
        return 0

    def move(self, reason):
        args = self.args
        if not self.plan():
            return 0
        print(f"{self.name}: in the emulated host: {reason}", file=sys.stderr)
        files = [args.kernel, args.initrd, *self.files(), *host.program_files(self.programs)]
        return host.move(self.sides, files, self.store_path(), self.host_memory_mib)

    def header(self):
        args = self.args
        settings = {"memory_mib": args.memory, "cmdline": args.cmdline}
        for name, path in (("kernel", args.kernel), ("initrd", args.initrd)):
            settings[name] = f"{os.path.basename(path)} {sides.file_hash(path)}" if path else ""
        return {"kind": "header", "part": self.name, "format": results.FORMAT,
                "where": host.where(), "machine": host.machine(),
                "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
                "settings": {**settings, **self.settings()},
                "vmms": {side.label: side.describe() for side in self.sides}}

    def run(self):
        for signo in SIGNALS:
            signal.signal(signo, stop)
        try:
            self.sides = sides.runnable(self.sides)
            with results.Store(self.store_path(), self.header(), self.metrics) as self.store:
                self.work()
        except KeyboardInterrupt:
            self.display.say(f"{self.name}: stopped; the same command goes on from here")
            return 130
        self.show(self.store.results)
        return 0

    def work(self):
        try:
            guests.empty_folder(self.kept)
            self.set_up()
            Rounds(self).run()
        finally:
            shutil.rmtree(self.kept, ignore_errors=True)


class Rounds:
    """Works off the plan of a part."""

    def __init__(self, part):
        self.part, self.display, self.store = part, part.display, part.store
        if part.args.retry:
            self.store.results.failures.clear()

    def run(self):
        steps = [step for step in self.part.plan() if self.is_wanted(*step)]
        if not steps:
            return
        self.meter = Meter([(self.key(case, side), case.seconds) for case, side, _ in steps])
        self.first_guest(steps[0])
        for step in steps:
            self.step(*step)

    @staticmethod
    def key(case, side):
        return f"{case.name} {side.label}"

    def is_wanted(self, case, side, number):
        """Not measured, and not failed too often; a warm-up only before something to measure."""
        found = self.store.results
        if number == 0:
            numbers = range(1, (case.rounds or self.part.args.runs) + 1)
            return any(self.is_wanted(case, side, other) for other in numbers)
        if found.measured(case.name, side.label, number):
            return False
        return not self.given_up(case, side) and \
            number not in found.failures.get((case.name, side.label), {})

    def given_up(self, case, side):
        found = self.store.results
        return found.failed(case.name, side.label) >= GIVE_UP_AFTER and \
            not found.samples.get(case.name, {}).get(side.label)

    def first_guest(self, step):
        """The first guest of a fresh host is faster than all later ones; it does not count."""
        if not self.part.whole_boots:
            return
        self.display.set(0, self.meter.left_s(), "a first guest, not counted")
        try:
            attempt = Attempt(Case("first", self.part.guest(), None), step[1], self.part.kept)
            with attempt.start() as run:
                run.wait_for(guests.MARKER, BOOT_TIMEOUT_S)
        except (OSError, RuntimeError, subprocess.SubprocessError):
            pass  # whoever cannot boot is told when it counts

    def step(self, case, side, number):
        key = self.key(case, side)
        if number > 0 and self.given_up(case, side):
            self.meter.drop(key)
            return
        rounds = case.rounds or self.part.args.runs
        self.display.set(self.meter.done_s, self.meter.left_s(),
                         f"{self.part.name}: {case.name}, {side.label}, "
                         + (f"{number} of {rounds}" if number else "not counted"))
        start = time.monotonic()
        where = {"case": case.name, "vmm": side.label, "round": number}
        try:
            values = self.measure(case, side)
            if number > 0:
                self.store.append({"kind": "sample", **where, "values": values})
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            self.display.say(f"{self.part.name}: {case.name}: {side.label}: {error}")
            self.store.append({"kind": "failure", **where, "message": str(error)})
        self.meter.done(key, time.monotonic() - start)

    def measure(self, case, side):
        attempt = Attempt(case, side, self.part.kept)
        if case.prepare:
            case.prepare(attempt)
        if (case.name, side.label) not in self.store.results.commands:
            self.store.append({"kind": "command", "case": case.name, "vmm": side.label,
                               **attempt.shown_command()})
        return case.measure(attempt)


# ---- tables ------------------------------------------------------------------------------------


def metric(name, unit, better, title):
    return {"kind": "metric", "name": name, "unit": unit, "better": better, "title": title}


def ratio(ours, theirs):
    return f"{theirs / ours:.2f}" if ours and theirs is not None else "-"


def show_commands(found):
    """How each VMM was started the first time."""
    shown = set()
    for (_, vmm), command in found.commands.items():
        if vmm not in shown:
            shown.add(vmm)
            version = found.header["vmms"].get(vmm, {}).get("version")
            print(f"{vmm}{': ' + version if version else ''}: {shlex.join(command['argv'])}")


def place(found, label):
    """Where a side stands in a table: in the order of the header, variants after what they vary."""
    order = list(found.header["vmms"])
    name = label.split(",")[0]
    return order.index(name) if name in order else len(order), label


def rows_of(found, case, name):
    """Rows of a table: minimum, median, maximum, and the ratio to the first side's median."""
    labels = sorted(found.samples[case], key=lambda vmm: place(found, vmm))
    medians = {vmm: median(found.values(case, vmm, name)) for vmm in labels
               if found.values(case, vmm, name)}
    base = medians.get(sides.OURS, next(iter(medians.values()), None))
    for vmm, middle in medians.items():
        values = found.values(case, vmm, name)
        yield [vmm, figure(min(values)), figure(middle), figure(max(values)), len(values),
               ratio(base, middle)]


def labels_of(found, cases):
    """All sides in these cases."""
    labels = {label for case in cases for label in found.samples[case]}
    return sorted(labels, key=lambda label: place(found, label))


def median_cell(found, case, label, name):
    values = found.values(case, label, name)
    return figure(median(values)) if values else "-"


def show_medians(found, case):
    """A table of a case's medians: a line for each metric, a column for each side."""
    labels = labels_of(found, [case])
    print()
    table([f"{case}: medians", *labels],
          [[f"{metric['title']}{', ' if metric['unit'] else ''}{metric['unit']}",
            *(median_cell(found, case, label, name) for label in labels)]
           for name, metric in found.metrics.items()
           if any(found.values(case, label, name) for label in labels)])


def show_growth(found, cases, name):
    """A table of a metric's medians: a line for each case, a column for each side."""
    labels = labels_of(found, cases)
    described = found.metrics[name]
    print()
    table([f"{described['title']}, {described['unit']}", *labels],
          [[case, *(median_cell(found, case, label, name) for label in labels)] for case in cases])


def show_failures(found):
    for (case, vmm), messages in found.failures.items():
        if messages:
            first = next(iter(messages.values())).splitlines()
            print(f"\nfailed: {case}: {vmm}, {len(messages)} times: {first[0]}")


def show_case(found, case):
    """A table for each metric: minimum, median, maximum, and the ratio to minivmm's median."""
    for name, described in found.metrics.items():
        rows = list(rows_of(found, case, name))
        if rows:
            print()
            table([f"{case}: {described['title']}, {described['unit']}", "min", "median", "max",
                   "runs", f"/ {sides.OURS}"], rows)


def show_tables(found, medians_only=""):
    """All cases; those that begin so with their medians only, in one table each."""
    print(f"where: {found.header['where']}")
    show_commands(found)
    for case in found.samples:
        if medians_only and case.startswith(medians_only):
            show_medians(found, case)
        else:
            show_case(found, case)
    show_failures(found)
