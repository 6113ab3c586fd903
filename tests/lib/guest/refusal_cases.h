/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusals in files of tests/guest/cases/, a line for each:
 *
 *   CODE ARG… | TEXT | TEXT      exit code, arguments, and texts in the line on stderr
 *   CODE = JSON | TEXT | TEXT    the same for `--config config.json`, a file with these contents
 *   # …                          a comment
 *
 * The argument "" is empty. Blanks at the ends of a text do not count.
 */
#ifndef MINIVMM_TESTS_REFUSAL_CASES_H
#define MINIVMM_TESTS_REFUSAL_CASES_H

#include "tests/lib/guest/refusal.h"

struct refusal_cases {
    struct refusal *list;
    int n;
    char *text; /* of the file, cut into pieces */
};

/*
 * Read tests/guest/cases/NAME.cases, for the rest of the program: for add_tests. What is wrong with
 * it ends the program.
 */
void refusal_cases_read(struct refusal_cases *cases, const char *name);

#endif
