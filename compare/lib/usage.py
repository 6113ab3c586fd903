# SPDX-License-Identifier: Apache-2.0
"""Command lines: help, and for those that make no sense one line on stderr, and exit status 2."""

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


def parser(doc):
    """For a script whose docstring says what it is, "usage: …", and the rest, in paragraphs."""
    what, usage, rest = doc.strip().split("\n\n", 2)
    return Parser(description=what, usage=usage.removeprefix("usage: "), epilog=rest,
                  formatter_class=argparse.RawDescriptionHelpFormatter)


def add_bench_options(parser, folder, what_is_in_it, scale):
    """What block-bench and img-bench have in common."""
    parser.add_argument("--runs", type=positive, default=5, metavar="N",
                        help="of each case and program (%(default)s)")
    parser.add_argument("--json", default="", metavar="FILE",
                        help="write what was measured; in a folder of results, for compare/report")
    parser.add_argument("--dir", default=folder, metavar="DIR",
                        help=f"where to put {what_is_in_it} (%(default)s)")
    parser.add_argument("--scale", type=float, default=1, metavar="X", help=scale)
    parser.add_argument("--only", default="", type=regex, metavar="REGEX",
                        help="cases with a match")
    parser.add_argument("--list", action="store_true", help="print the cases and end")


def need_case(chosen, only):
    if not chosen:
        refuse(f"{NO_CASE} {only}; see --list")


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
