# SPDX-License-Identifier: Apache-2.0
"""unittest cases as scripts/check counts them: PASS name, FAIL name: reason, SKIP name: reason."""

import sys
import traceback
import unittest


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Lines(unittest.TestResult):
    """Prints a line for each test, and where one failed, before its line."""

    def addSuccess(self, test):
        say(f"PASS {test.id()}")

    def addSkip(self, test, reason):
        say(f"SKIP {test.id()}: {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        say("".join(traceback.format_exception(*err)))
        say(f"FAIL {test.id()}: {str(err[1]).splitlines()[0] if str(err[1]) else err[0].__name__}")

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.addFailure(subtest, err)


def cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


def run(folder, names):
    """Run the cases in test_*.py, all or those whose name contains one of `names`: 0, 1 or None, none."""
    found = list(cases(unittest.defaultTestLoader.discover(folder)))
    chosen = [test for test in found if not names or any(name in test.id() for name in names)]
    if not chosen:
        return None
    result = Lines()
    unittest.TestSuite(chosen).run(result)
    return 0 if result.wasSuccessful() else 1
