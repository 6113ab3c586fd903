# SPDX-License-Identifier: Apache-2.0
"""Command lines that make no sense: one line on stderr, and exit status 2."""

import argparse
import os
import re
import sys

STATUS = 2
# compare/all leaves out parts that say so.
NO_CASE = "no case matches"
BUILD = "run `make all tests`"


def refuse(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)
    sys.exit(STATUS)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        refuse(f"{message}; see --help")


def positive(text):
    """A number of something, at least one; a type for options."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return int(text)


def regex(text):
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text}: no regular expression: {error}") from error
    return text


def need_files(paths, maker):
    """All of them are there; `maker` says what makes those that are not."""
    for path in paths:
        if path and not os.path.exists(path):
            refuse(f"{path}: no such file; {maker}")
