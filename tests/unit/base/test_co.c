/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines, what they wait for, and locks on ranges.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/co.h"
#include "base/range_lock.h"
#include "tests/lib/unit.h"

static struct co_sched sched;
static char trace[256];

static void note(char what)
{
    size_t len = strlen(trace);

    ck_assert_uint_lt(len + 1, sizeof(trace));
    trace[len] = what;
    trace[len + 1] = '\0';
}

static void setup(void)
{
    co_sched_init(&sched);
    trace[0] = '\0';
}

static void teardown(void)
{
    co_sched_done(&sched);
}

static void start(void (*fn)(void *opaque), void *opaque)
{
    ck_assert_int_eq(co_start(&sched, fn, opaque), 0);
}

/* With a text that fn only reads. */
static void start_with(void (*fn)(void *opaque), const char *names)
{
    start(fn, (void *)names);
}

/* ---- coroutines ------------------------------------------------------------------------------ */

static struct co *suspended;

static void note_suspend_note(void *opaque)
{
    const char *names = opaque;
    double kept = names[0] * 1.5;

    note(names[0]);
    suspended = co_self();
    co_suspend();
    ck_assert(kept == names[0] * 1.5);
    note(names[1]);
}

START_TEST(coroutine_runs_later_and_goes_on_where_it_suspended)
{
    start_with(note_suspend_note, "ab");
    ck_assert_str_eq(trace, "");
    ck_assert_ptr_null(co_self());
    ck_assert(co_sched_run(&sched));
    ck_assert_str_eq(trace, "a");
    ck_assert(!co_sched_run(&sched));
    co_wake(suspended);
    ck_assert(co_sched_run(&sched));
    ck_assert_str_eq(trace, "ab");
    ck_assert_uint_eq(sched.live, 0);
}
END_TEST

static void starts_another(void *opaque)
{
    note('1');
    start_with(note_suspend_note, "23");
    note('4');
}

START_TEST(coroutine_can_start_another)
{
    start(starts_another, NULL);
    co_sched_run(&sched);
    co_wake(suspended);
    co_sched_run(&sched);
    ck_assert_str_eq(trace, "1423");
}
END_TEST

static void use_stack(void *opaque)
{
    volatile char big[64 * 1024];

    memset((char *)big, 1, sizeof(big));
    note(big[4711] == 1 ? '.' : 'x');
}

START_TEST(stacks_are_used_again_and_an_idle_scheduler_keeps_few)
{
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 20; i++)
            start(use_stack, NULL);
        ck_assert_uint_eq(sched.live, 20);
        co_sched_run(&sched);
        ck_assert_uint_eq(sched.live, 0);
        ck_assert_uint_eq(sched.nidle, 20);
    }
    co_sched_trim(&sched);
    ck_assert_uint_eq(sched.nidle, CO_IDLE_STACKS);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NEIGHBOURS 8

static struct neighbour {
    struct co *co;
    uintptr_t stack;    /* an address in it */
    uintptr_t write_to; /* what lies below its own stack, down to here; 0: nothing */
} neighbours[NEIGHBOURS];

static void write_below(void *opaque)
{
    struct neighbour *self = opaque;
    char here;

    self->co = co_self();
    self->stack = (uintptr_t)&here;
    co_suspend();
    for (uintptr_t at = self->stack; self->write_to && at > self->write_to; at -= 4096)
        *(volatile char *)at = 0;
    ck_assert_msg(!self->write_to, "one stack was written from another");
}

/* The kernel puts mappings next to each other: the two that are closest have nothing between. */
static struct neighbour *find_pair(uintptr_t *ret_below)
{
    struct neighbour *upper = NULL;

    for (int i = 0; i < NEIGHBOURS; i++)
        for (int k = 0; k < NEIGHBOURS; k++) {
            uintptr_t distance = neighbours[i].stack - neighbours[k].stack;

            if (neighbours[i].stack <= neighbours[k].stack ||
                (upper && distance >= upper->stack - *ret_below))
                continue;
            upper = &neighbours[i];
            *ret_below = neighbours[k].stack;
        }
    return upper;
}

START_TEST(overflowing_stack_hits_the_guard_page)
{
    struct neighbour *upper;
    uintptr_t below = 0;

    for (int i = 0; i < NEIGHBOURS; i++)
        start(write_below, &neighbours[i]);
    co_sched_run(&sched);
    upper = find_pair(&below);
    upper->write_to = below;
    co_wake(upper->co);
    co_sched_run(&sched);
}
END_TEST
#endif

/* ---- waiting --------------------------------------------------------------------------------- */

static struct co_mutex mutex;
static struct co_queue queue;

static void lock_and_wait(void *opaque)
{
    const char *names = opaque;

    co_mutex_lock(&mutex);
    note(names[0]);
    co_queue_wait(&queue);
    note(names[1]);
    co_mutex_unlock(&mutex);
}

START_TEST(mutex_is_handed_over_in_order)
{
    co_mutex_init(&mutex);
    co_queue_init(&queue);
    start_with(lock_and_wait, "aA");
    start_with(lock_and_wait, "bB");
    start_with(lock_and_wait, "cC");
    for (int i = 0; i < 3; i++) {
        co_sched_run(&sched);
        ck_assert(co_queue_wake_one(&queue));
    }
    co_sched_run(&sched);
    ck_assert(!co_queue_wake_one(&queue));
    ck_assert_str_eq(trace, "aAbBcC");
    co_mutex_lock(&mutex); /* free again, outside coroutines */
    co_mutex_unlock(&mutex);
}
END_TEST

/* ---- ranges ---------------------------------------------------------------------------------- */

static struct range_lock lock;

static struct holder {
    uint64_t off;
    uint64_t len;
    bool exclusive;
    char name;
    struct co *co;
} holders[8];

static void hold(void *opaque)
{
    struct holder *holder = opaque;
    struct range range;

    holder->co = co_self();
    range_acquire(&lock, &range, holder->off, holder->len, holder->exclusive);
    note(holder->name);
    co_suspend();
    range_release(&lock, &range);
}

static void start_holder(int i, uint64_t off, uint64_t len, bool exclusive)
{
    holders[i] = (struct holder){off, len, exclusive, (char)('a' + i), NULL};
    start(hold, &holders[i]);
    co_sched_run(&sched);
}

static void release(int i)
{
    co_wake(holders[i].co);
    co_sched_run(&sched);
}

START_TEST(shared_ranges_overlap_and_exclusive_ones_do_not)
{
    range_lock_init(&lock);
    start_holder(0, 0, 100, false);
    start_holder(1, 50, 100, false);
    start_holder(2, 120, 10, true); /* waits for b */
    start_holder(3, 200, 10, true);
    ck_assert_str_eq(trace, "abd");
    release(0);
    ck_assert_str_eq(trace, "abd");
    release(1);
    ck_assert_str_eq(trace, "abdc");
    release(2);
    release(3);
}
END_TEST

START_TEST(exclusive_ranges_wait_for_each_other)
{
    range_lock_init(&lock);
    start_holder(0, 0, 10, true);
    start_holder(1, 9, 10, true);
    ck_assert_str_eq(trace, "a");
    release(0);
    ck_assert_str_eq(trace, "ab");
    release(1);
}
END_TEST

START_TEST(later_shared_range_does_not_overtake_a_waiting_exclusive_one)
{
    range_lock_init(&lock);
    start_holder(0, 0, 10, false);
    start_holder(1, 0, 10, true);
    start_holder(2, 5, 10, false); /* overlaps b, which came before it */
    start_holder(3, 10, 10, false);
    ck_assert_str_eq(trace, "ad");
    release(0);
    ck_assert_str_eq(trace, "adb");
    release(1);
    ck_assert_str_eq(trace, "adbc");
    release(2);
    release(3);
}
END_TEST

START_TEST(neighbouring_ranges_do_not_conflict)
{
    range_lock_init(&lock);
    start_holder(0, 0, 10, true);
    start_holder(1, 10, 10, true);
    ck_assert_str_eq(trace, "ab");
    release(1);
    release(0);
}
END_TEST

/* ---- groups ---------------------------------------------------------------------------------- */

struct part {
    struct co_group *group;
    struct co *self;
    char name;
    int result;
};

static struct part parts[3];

static void part_main(void *opaque)
{
    struct part *part = opaque;

    note(part->name);
    part->self = co_self();
    co_suspend();
    co_group_done(part->group, part->result);
}

static void group_main(void *opaque)
{
    struct co_group group;

    co_group_init(&group);
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct part){.group = &group, .name = (char)('a' + i), .result = -i};
        ck_assert_int_eq(co_group_start(&group, part_main, &parts[i]), 0);
    }
    ck_assert_int_eq(co_group_wait(&group), *(int *)opaque);
    note('!');
}

START_TEST(group_waits_for_its_parts_and_has_their_first_failure)
{
    int expect = -2;

    start(group_main, &expect);
    (void)co_sched_run(&sched);
    ck_assert_str_eq(trace, "abc");
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(trace, "abc");
        co_wake(parts[(i + 2) % 3].self); /* the last one ends first */
        (void)co_sched_run(&sched);
    }
    ck_assert_str_eq(trace, "abc!");
}
END_TEST

static void count_part(void *opaque)
{
    co_group_done(opaque, 0);
}

static void start_as_many_as_possible(void *opaque)
{
    struct co_group group;
    unsigned *n = opaque;

    co_group_init(&group);
    while (co_group_start(&group, count_part, &group) == 0)
        (*n)++;
    ck_assert_int_eq(co_group_wait(&group), 0);
    ck_assert_int_eq(co_group_wait(&group), 0); /* nothing to wait for */
}

START_TEST(groups_are_bounded_and_need_a_coroutine)
{
    struct co_group group;
    unsigned n = 0;

    co_group_init(&group);
    ck_assert_int_eq(co_group_start(&group, count_part, &group), -EAGAIN);
    ck_assert_int_eq(co_group_wait(&group), 0);
    start(start_as_many_as_possible, &n);
    (void)co_sched_run(&sched);
    ck_assert_uint_eq(n, CO_GROUP_MAX - 1);
}
END_TEST

/* ---- turns ----------------------------------------------------------------------------------- */

static bool unwanted;

static int turn_result;
static char first[] = "a";
static char second[] = "b";

/* Three quarters of a round at a time. */
static void take_turns(void *opaque)
{
    const char *name = opaque;

    for (int i = 0; i < 3; i++) {
        turn_result = co_turn((uint64_t)CO_ROUND_MAX / 4 * 3);
        note(*name);
    }
}

START_TEST(turns_give_way_when_a_round_is_spent)
{
    ck_assert_int_eq(co_turn(2ull * CO_ROUND_MAX), 0); /* outside of coroutines nobody is asked */
    start(take_turns, first);
    start(take_turns, second);
    ck_assert(co_sched_run(&sched));
    ck_assert_str_eq(trace, "aa");
    ck_assert(co_sched_gave_way(&sched));
    ck_assert(!co_sched_run(&sched)); /* not before the next round */
    co_sched_next_round(&sched);
    ck_assert(co_sched_run(&sched));
    ck_assert_str_eq(trace, "aaab"); /* first come, first served */
    co_sched_next_round(&sched);
    ck_assert(co_sched_run(&sched));
    ck_assert_str_eq(trace, "aaabbb");
    ck_assert(!co_sched_gave_way(&sched));
    ck_assert_int_eq(turn_result, 0);
}
END_TEST

static void start_one_that_takes_turns(void *opaque)
{
    co_set_cancel(&unwanted);
    start(take_turns, opaque);
}

START_TEST(turns_end_when_the_work_is_unwanted)
{
    start(start_one_that_takes_turns, first);
    (void)co_sched_run(&sched);
    ck_assert_int_eq(turn_result, 0);
    unwanted = true;
    co_sched_next_round(&sched);
    (void)co_sched_run(&sched);
    ck_assert_int_eq(turn_result, -ECANCELED);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("co");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, coroutine_runs_later_and_goes_on_where_it_suspended);
    tcase_add_test(tcase, coroutine_can_start_another);
    tcase_add_test(tcase, stacks_are_used_again_and_an_idle_scheduler_keeps_few);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test_raise_signal(tcase, overflowing_stack_hits_the_guard_page, 11);
#endif
    tcase_add_test(tcase, mutex_is_handed_over_in_order);
    tcase_add_test(tcase, shared_ranges_overlap_and_exclusive_ones_do_not);
    tcase_add_test(tcase, exclusive_ranges_wait_for_each_other);
    tcase_add_test(tcase, later_shared_range_does_not_overtake_a_waiting_exclusive_one);
    tcase_add_test(tcase, neighbouring_ranges_do_not_conflict);
    tcase_add_test(tcase, group_waits_for_its_parts_and_has_their_first_failure);
    tcase_add_test(tcase, groups_are_bounded_and_need_a_coroutine);
    tcase_add_test(tcase, turns_give_way_when_a_round_is_spent);
    tcase_add_test(tcase, turns_end_when_the_work_is_unwanted);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("co", add_tests)
