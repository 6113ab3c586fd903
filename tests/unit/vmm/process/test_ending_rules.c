/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/unit.h"
#include "vmm/process/ending_rules.h"

#define MS 1000000ull
#define START (1000 * MS) /* some moment */

START_TEST(first_signal_does_what_the_phase_needs)
{
    static const struct {
        enum ending_phase phase;
        enum ending_step step;
    } cases[] = {
        {ENDING_SET_UP, ENDING_CANCEL},
        {ENDING_GUEST, ENDING_ASK},
        {ENDING_CLOSING, ENDING_WAIT},
    };

    for (size_t i = 0; i < 3; i++) {
        struct ending_rules rules = {.phase = cases[i].phase};

        ck_assert_int_eq(ending_rules_signal(&rules, START), cases[i].step);
        ck_assert(rules.asked);
    }
}
END_TEST

/* timeout(1) signals its child and the group; a terminal that closes signals twice. */
START_TEST(signals_within_the_pause_are_one_request)
{
    struct ending_rules rules = {.phase = ENDING_GUEST};

    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_ASK);
    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 10 * MS), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 999 * MS), ENDING_NOTHING);
    ck_assert(!rules.insisted);
}
END_TEST

/* The pause begins with the first one: a stream of signals does not put the end off. */
START_TEST(signal_after_the_pause_insists)
{
    struct ending_rules rules = {.phase = ENDING_GUEST};

    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_ASK);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 900 * MS), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 1000 * MS), ENDING_INSIST);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 5000 * MS), ENDING_NOTHING);
}
END_TEST

START_TEST(signal_insists_also_while_all_is_closed)
{
    struct ending_rules rules = {.phase = ENDING_GUEST};

    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_ASK);
    rules.phase = ENDING_CLOSING;
    ck_assert_int_eq(ending_rules_signal(&rules, START + 10 * MS), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 2000 * MS), ENDING_INSIST);
}
END_TEST

/* Set-up ends anyway; what it opened is closed meanwhile. */
START_TEST(set_up_is_cancelled_once)
{
    struct ending_rules rules = {0};

    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_CANCEL);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 5000 * MS), ENDING_NOTHING);
    ck_assert(!ending_rules_begin_guest(&rules));
    ck_assert_int_eq(rules.phase, ENDING_SET_UP);
}
END_TEST

START_TEST(insisting_counts_once)
{
    struct ending_rules rules = {.phase = ENDING_GUEST};

    ck_assert_int_eq(ending_rules_insist(&rules), ENDING_INSIST);
    ck_assert_int_eq(ending_rules_insist(&rules), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_NOTHING);
    ck_assert_int_eq(ending_rules_signal(&rules, START + 5000 * MS), ENDING_NOTHING);
}
END_TEST

/* A signal may come between the end of one guest and the start of the next. */
START_TEST(no_guest_starts_after_a_request)
{
    struct ending_rules rules = {0};

    ck_assert(ending_rules_begin_guest(&rules));
    ck_assert_int_eq(rules.phase, ENDING_GUEST);
    ck_assert_int_eq(ending_rules_signal(&rules, START), ENDING_ASK);
    rules.phase = ENDING_SET_UP;
    ck_assert(!ending_rules_begin_guest(&rules));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "ending_rules", first_signal_does_what_the_phase_needs,
              signals_within_the_pause_are_one_request, signal_after_the_pause_insists,
              signal_insists_also_while_all_is_closed, set_up_is_cancelled_once,
              insisting_counts_once, no_guest_starts_after_a_request);
}

UNIT_MAIN("ending_rules", add_tests)
