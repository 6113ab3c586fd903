/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of a guest test program: as UNIT_MAIN, but skipped without /dev/kvm, and with more
 * time.
 */
#ifndef MINIVMM_TESTS_GUEST_TEST_H
#define MINIVMM_TESTS_GUEST_TEST_H

#include "tests/lib/guest/guest.h"
#include "tests/lib/guest/vm.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* Memory that every guest fits in, and starts fast with. */
#define GUEST_MEMORY "64M"

/* vm_wait's result is as expected; if not, what minivmm said goes into the failure. */
#define assert_exit_code(vm, actual, expected)                                                     \
    do {                                                                                           \
        int actual_ = (actual), expected_ = (expected);                                            \
                                                                                                   \
        ck_assert_msg(actual_ == expected_, "exit code %d, expected %d; stderr: %s", actual_,      \
                      expected_, vm_errors(vm));                                                   \
    } while (0)

/* As unit_main. */
int guest_test_main(const char *name, void (*add_tests)(Suite *suite));

#define GUEST_TEST_MAIN(name, add_tests)                                                           \
    int main(void)                                                                                 \
    {                                                                                              \
        return guest_test_main(name, add_tests);                                                   \
    }

#endif
