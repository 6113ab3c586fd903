/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs keep to their speed, and are not slower than that.
 */
#include "block/job.h"

#include <errno.h>

#include "base/clock.h"
#include "block/driver.h"
#include "tests/lib/unit.h"

static struct block block; /* not attached: sleeping is the thread's */

/* What `n` pieces take. */
static double steps_ms(struct block_job *job, unsigned n, uint64_t moved)
{
    uint64_t begin = monotonic_ns();

    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(block_job_step(job, &block, i, moved), 0);
    return (double)(monotonic_ns() - begin) / (double)NS_PER_MS;
}

/* 128 MiB at 1 GiB/s: 125 ms, of which the first 50 are for free. */
START_TEST(a_fast_job_is_as_fast_as_it_may_be)
{
    struct block_job job = {.speed = 1024 * MIB};
    double ms = steps_ms(&job, 64, 2 * MIB);

    ck_assert_double_ge(ms, 70);
    ck_assert_double_le(ms, 2900); /* with the longest nap for each piece: 3200 */
}
END_TEST

START_TEST(a_slow_job_is_no_faster_than_it_may_be)
{
    struct block_job job = {.speed = 10 * MIB};

    ck_assert_double_ge(steps_ms(&job, 4, MIB), 345);
    ck_assert_uint_eq(job.offset, 3);
}
END_TEST

START_TEST(what_moves_nothing_costs_nothing)
{
    struct block_job job = {.speed = 1024};

    ck_assert_double_le(steps_ms(&job, 1000, 0), 30000);
}
END_TEST

START_TEST(what_is_cancelled_does_not_wait)
{
    struct block_job job = {.speed = 1, .cancelled = true, .paused = true};

    ck_assert_int_eq(block_job_step(&job, &block, 0, MIB), -ECANCELED);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("job");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_fast_job_is_as_fast_as_it_may_be);
    tcase_add_test(tcase, a_slow_job_is_no_faster_than_it_may_be);
    tcase_add_test(tcase, what_moves_nothing_costs_nothing);
    tcase_add_test(tcase, what_is_cancelled_does_not_wait);
    suite_add_tcase(suite, tcase);
}

UNIT_MAIN("job", add_tests)
