/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of a unit test program: one suite, run by check, result as the exit status.
 *
 * A program ends with UNIT_MAIN("name", add_tests) where add_tests(suite) adds test cases.
 */
#ifndef MINIVMM_TESTS_UNIT_H
#define MINIVMM_TESTS_UNIT_H

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Exit status that says: not run; the reason is the last line printed. */
#define UNIT_SKIP 77

/* Run the tests; the exit status. There is a folder for their files meanwhile, see scratch.h. */
int unit_main(const char *name, void (*add_tests)(Suite *suite));

/* The number in an environment variable, or another one if there is none. */
unsigned unit_number(const char *name, unsigned otherwise);

/* Where random tests begin: SEED, or the time. Prints it; for add_tests. */
unsigned unit_seed(void);

/*
 * A program whose tests use more than one thread says UNIT_USES_THREADS; before UNIT_MAIN. It then
 * runs under ThreadSanitizer too. In the others, creating a thread fails the test.
 */
extern bool unit_uses_threads;
#define UNIT_USES_THREADS bool unit_uses_threads = true

/*
 * A test case with the tests given, in the form unit_case(suite, "name", test_a, test_b, …).
 * unit_case_with runs `set_up` before and `tear_down` after each test; either may be NULL.
 */
#define unit_case(suite, name, ...) unit_case_with(suite, name, NULL, NULL, __VA_ARGS__)

#define unit_case_with(suite, name, set_up, tear_down, ...)                                        \
    do {                                                                                           \
        const TTest *const unit_tests_[] = {__VA_ARGS__};                                          \
        TCase *unit_case_ = tcase_create(name);                                                    \
        tcase_add_checked_fixture(unit_case_, set_up, tear_down);                                  \
        for (size_t unit_i_ = 0; unit_i_ < sizeof(unit_tests_) / sizeof(unit_tests_[0]);           \
             unit_i_++)                                                                            \
            tcase_add_test(unit_case_, unit_tests_[unit_i_]);                                      \
        suite_add_tcase(suite, unit_case_);                                                        \
    } while (0)

#define UNIT_MAIN(name, add_tests)                                                                 \
    int main(void)                                                                                 \
    {                                                                                              \
        return unit_main(name, add_tests);                                                         \
    }

#endif
