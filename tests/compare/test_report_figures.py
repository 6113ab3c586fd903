# SPDX-License-Identifier: Apache-2.0
"""Minimum, median, maximum, ratios, and what is called larger than noise."""

import itertools

from lib.report import difference, figures, load, ranks
from made_runs import MS, RATE, RunTestCase, failure, header, samples


class Figures(RunTestCase):
    def groups(self, *lines):
        run = load.read_run(self.write("run/a.jsonl", [header(), MS, RATE, *lines]))
        return list(figures.groups_of(run.parts[0]))

    def ratios(self, *lines):
        """{VMM: (to the best, to minivmm)} of the only group."""
        group, = self.groups(*lines)
        return {figure.vmm: (figure.to_best, figure.to_ours) for figure in group.figures}

    def test_medians_and_ratios_where_lower_is_better(self):
        lines = [*samples([9, 4, 5]), *samples([3, 2], "other")]
        group, = self.groups(*lines)
        self.assertEqual([figure.median for figure in group.figures], [5, 2.5])
        self.assertEqual(self.ratios(*lines), {"minivmm": (2, 1), "other": (1, 0.5)})

    def test_ratios_where_higher_is_better(self):
        lines = [*samples([50], metric="rate"), *samples([200], "other", metric="rate")]
        self.assertEqual(self.ratios(*lines), {"minivmm": (0.25, 1), "other": (1, 4)})

    def test_the_host_is_never_the_best(self):
        lines = [*samples([4]), *samples([1], "host"), *samples([8], "other")]
        self.assertEqual(self.ratios(*lines),
                         {"minivmm": (1, 1), "host": (0.25, 0.25), "other": (2, 2)})

    def test_nothing_is_divided_by_zero(self):
        self.assertEqual(self.ratios(*samples([0]), *samples([3], "other")),
                         {"minivmm": (None, None), "other": (None, None)})

    def test_no_best_where_neither_direction_is_better(self):
        self.assertEqual(self.ratios(*samples([2], metric="n"), *samples([4], "other", metric="n")),
                         {"minivmm": (None, 1), "other": (None, 2)})

    def test_who_failed_each_time_is_shown_without_values(self):
        group, = self.groups(*samples([2]), failure(1, "other"), failure(2, "other"))
        self.assertEqual([(f.vmm, len(f.values), f.failed) for f in group.figures],
                         [("minivmm", 1, 0), ("other", 0, 2)])

    def test_cases_that_begin_alike_are_a_group(self):
        groups = self.groups(*(sample for case in ("cpu", "idle, 1", "cpu, 4", "many", "cpu: 1")
                               for sample in samples([1], case=case)))
        self.assertEqual([(g.name, g.cases) for g in groups],
                         [("cpu", ["cpu", "cpu, 4", "cpu: 1"]), ("", ["idle, 1", "many"])])
        self.assertEqual([groups[0].short(case) for case in groups[0].cases], ["cpu", "4", "1"])
        self.assertEqual(groups[1].short("idle, 1"), "idle, 1")

    def test_how_far_ahead_of_the_best_of_the_others(self):
        def ahead(*lines):
            group, = self.groups(*lines)
            return figures.ahead(group.figures, group.metric.better)
        self.assertEqual(ahead(*samples([2]), *samples([6], "a"), *samples([8], "b")), 3)
        self.assertEqual(ahead(*samples([2], metric="rate"), *samples([8], "a", metric="rate")),
                         0.25)
        # Neither minivmm with other options nor the host is one of the others.
        self.assertEqual(ahead(*samples([2]), *samples([1], "minivmm, tuned"),
                               *samples([1], "host"), *samples([6], "a")), 3)
        self.assertIsNone(ahead(*samples([2])))
        self.assertIsNone(ahead(*samples([0]), *samples([6], "a")))


class Ranks(RunTestCase):
    def by_counting(self, one, other):
        """The definition: of all ways to deal out the values, how many are as far apart."""
        values = ranks.doubled_ranks([*one, *other])
        middle = len(one) * (len(values) + 1)
        distances = [abs(sum(values[at] for at in chosen) - middle)
                     for chosen in itertools.combinations(range(len(values)), len(one))]
        return sum(distance >= distances[0] for distance in distances) / len(distances)

    def test_as_counted(self):
        for one, other in (([1, 2, 3], [4, 5, 6]), ([1, 9], [2, 3, 4, 5]), ([1, 1, 2], [1, 3, 3]),
                           ([5], [6, 7]), ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]),
                           ([2, 2, 2, 7], [1, 2, 8])):
            self.assertAlmostEqual(ranks.chance(one, other), self.by_counting(one, other))

    def test_values_that_are_all_equal_tell_nothing(self):
        self.assertEqual(ranks.chance([3, 3], [3, 3]), 1)
        self.assertEqual(ranks.chance([3], [3]), 1)

    def test_many_values_come_close_to_the_exact_figure(self):
        one, other = list(range(13)), [value + 4.5 for value in range(13)]
        values = ranks.doubled_ranks(one + other)
        middle = 13 * 27
        exact = ranks.exact(values, 13, middle, abs(sum(values[:13]) - middle))
        self.assertAlmostEqual(ranks.chance(one, other), exact, delta=exact / 5)


class Difference(RunTestCase):
    BASE = [100, 101, 102, 103, 104]

    def verdict(self, old, new, metric="ms"):
        for name, values in (("old", old), ("new", new)):
            self.write(f"{name}/a.jsonl", [header(), MS, RATE, *samples(values, metric=metric)])
        runs = [load.read_run(self.path(name)) for name in ("old", "new")]
        change, = difference.compare(*runs)
        return change.verdict

    def test_better_and_worse(self):
        slower = [value * 1.2 for value in self.BASE]
        self.assertEqual(self.verdict(self.BASE, slower), "worse")
        self.assertEqual(self.verdict(slower, self.BASE), "better")
        self.assertEqual(self.verdict(self.BASE, slower, "rate"), "better")
        self.assertEqual(self.verdict(slower, self.BASE, "rate"), "worse")
        self.assertEqual(self.verdict(self.BASE, slower, "n"), "changed")

    def test_a_small_difference_is_noise_however_sure(self):
        self.assertEqual(self.verdict(self.BASE, [value * 1.04 + 0.5 for value in self.BASE]), "")
        self.assertEqual(self.verdict(self.BASE, [value * 1.06 for value in self.BASE]), "worse")

    def test_a_large_difference_of_values_that_vary_is_noise(self):
        self.assertEqual(self.verdict([10, 20, 30, 40, 50], [11, 21, 45, 41, 60]), "")

    def test_few_runs_give_a_question_mark_or_nothing(self):
        self.assertEqual(self.verdict([1, 1.1, 1.2], [2, 2.1, 2.2]), "worse?")
        self.assertEqual(self.verdict([1, 1.1], [2, 2.1]), "")
        self.assertEqual(self.verdict([1], [9]), "")

    def test_from_nothing_to_something(self):
        self.assertEqual(self.verdict([0] * 5, [1] * 5), "worse")
        self.assertEqual(self.verdict([0] * 5, [0] * 5), "")

    def both(self, old, new):
        return self.write("old/a.jsonl", old), self.write("new/a.jsonl", new)

    def test_exit_status(self):
        slower = [value * 1.2 for value in self.BASE]
        fast, slow = [header(), MS, *samples(self.BASE)], [header(), MS, *samples(slower)]
        self.assertEqual(self.report("--diff", *self.both(fast, slow)).returncode, 1)
        self.assertEqual(self.report("--diff", *self.both(slow, fast)).returncode, 0)
        self.assertEqual(self.report("--diff", *self.both(fast, fast)).returncode, 0)
        # Three runs are too few, and what becomes of another VMM is no fault of minivmm.
        few = [header(), MS, *samples([1, 1.1, 1.2])], [header(), MS, *samples([2, 2.1, 2.2])]
        self.assertEqual(self.report("--diff", *self.both(*few)).returncode, 0)
        theirs = ([header(), MS, *samples(values, "other")] for values in (self.BASE, slower))
        self.assertEqual(self.report("--diff", *self.both(*theirs)).returncode, 0)

    def test_nothing_in_common_is_an_error(self):
        done = self.report("--diff", *self.both([header(), MS, *samples([1])],
                                                [header("pmap"), MS, *samples([1])]))
        self.assertEqual(done.returncode, 2)
        self.assertIn("no figure in common", done.stderr)

    def test_what_is_printed(self):
        old = [header(), MS, *samples(self.BASE), *samples(self.BASE, "other"),
               *samples([1], case="gone")]
        new = [header(settings={"memory_mib": 512}, machine={"cpus": 8}), MS,
               *samples([value * 2 for value in self.BASE]),
               *samples([value * 1.01 for value in self.BASE], "other")]
        out = self.report("--diff", *self.both(old, new)).stdout
        self.assertRegex(out, r"userspace.*minivmm .* 102 .* 204 .*2\.00 .*100 … 104 .*worse\n")
        self.assertNotIn("1.01 ", out)
        self.assertIn("memory_mib was 256, is 512", out)
        self.assertIn("not the same machine: cpus 2 and 8", out)
        self.assertIn("only in OLD: boot-time: gone: minivmm", out)
        self.assertIn("median change, as a factor of time: 1.01", out)
        self.assertRegex(self.report("--diff", "--all", *self.both(old, new)).stdout,
                         r"userspace.*other .*1\.01 ")

    def test_runs_with_the_same_settings_are_compared(self):
        for name, factor in (("old", 1), ("new", 2)):
            for kernel, add in (("a", 0), ("b", 1000)):
                self.write(f"{name}/{kernel}.jsonl",
                           [header(settings={"kernel": kernel}), MS,
                            *samples([(value + add) * factor for value in self.BASE])])
        self.write("new/c.jsonl", [header(settings={"kernel": "c"}), MS, *samples([1])])
        out = self.report("--diff", self.path("old"), self.path("new")).stdout
        self.assertRegex(out, r"boot-time, kernel a: userspace.* 102 .* 204 ")
        self.assertRegex(out, r"boot-time, kernel b: userspace.* 1102 .* 2204 ")
        self.assertIn("only in NEW: boot-time, kernel c", out)

    def test_places_are_not_compared_with_each_other(self):
        machine = [header(), MS, *samples(self.BASE)]
        emulated = [header(where="emulated host"), MS, *samples(self.BASE)]
        self.assertEqual(self.report("--diff", *self.both(machine, emulated)).returncode, 2)


class Usage(RunTestCase):
    def test_usage_errors(self):
        for args in (["a", "b"], ["--diff", "a"], ["--diff", "a", "b", "c"], ["--all", "a"],
                     ["--diff", "--out", "x", "a", "b"], ["--teapot"]):
            done = self.report(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)

    def test_help(self):
        done = self.report("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("exit status", done.stdout)

    def test_what_cannot_be_read_is_named_in_one_line(self):
        done = self.report(self.path("none"))
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
        self.assertIn("none: no such folder", done.stderr)
