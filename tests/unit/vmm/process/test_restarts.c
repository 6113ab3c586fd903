/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/unit.h"
#include "vmm/process/restarts.h"

#define SOON (RESTARTS_LONG_ENOUGH_NS - 1)

START_TEST(some_quick_resets_are_free)
{
    struct restarts restarts = {0};

    for (unsigned i = 0; i < RESTARTS_FREE; i++)
        ck_assert_uint_eq(restarts_next_pause_s(&restarts, SOON), 0);
    ck_assert_uint_eq(restarts_next_pause_s(&restarts, SOON), RESTARTS_PAUSE_S);
}
END_TEST

START_TEST(pauses_double_up_to_a_limit)
{
    static const unsigned expected[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    struct restarts restarts = {.nquick = RESTARTS_FREE};

    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        ck_assert_uint_eq(restarts_next_pause_s(&restarts, 0), expected[i]);
}
END_TEST

START_TEST(long_life_makes_up_for_all)
{
    struct restarts restarts = {0};

    for (unsigned i = 0; i < RESTARTS_FREE + 5; i++)
        (void)restarts_next_pause_s(&restarts, SOON);
    ck_assert_uint_eq(restarts_next_pause_s(&restarts, RESTARTS_LONG_ENOUGH_NS), 0);
    for (unsigned i = 0; i < RESTARTS_FREE; i++)
        ck_assert_uint_eq(restarts_next_pause_s(&restarts, SOON), 0);
    ck_assert_uint_eq(restarts_next_pause_s(&restarts, SOON), RESTARTS_PAUSE_S);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "restarts", some_quick_resets_are_free, pauses_double_up_to_a_limit,
              long_life_makes_up_for_all);
}

UNIT_MAIN("restarts", add_tests)
