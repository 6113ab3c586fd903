/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs keep to their speed, and are not slower than that; those that rest are woken and do not look
 * by themselves.
 */
#include "block/job.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/clock.h"
#include "tests/lib/unit.h"

static struct {
    struct loop *loop;
    struct aio *aio;
    struct block_job job;

    /* What the operation does. */
    unsigned nsteps;
    uint64_t moved;
    bool rests;
    int result;
    double ms;
    bool done;

    unsigned nnews;
} t;

static void news(struct loop_work *work)
{
    t.nnews++;
    loop_stop(t.loop);
}

static void set_up(void)
{
    struct err err = {0};

    memset(&t, 0, sizeof(t));
    ck_assert_int_eq(loop_new(&t.loop), 0);
    ck_assert_msg(aio_get(t.loop, AIO_THREADS, &t.aio, &err) == 0, "%s", err.msg);
    block_job_begin(&t.job, 0, t.loop, t.loop, news);
}

static void tear_down(void)
{
    block_job_done(&t.job);
    loop_cancel(t.loop, &t.job.news);
    aio_put(t.aio);
    loop_free(t.loop);
}

static void operate(void *opaque)
{
    uint64_t begin = monotonic_ns();

    block_job_enter(&t.job, BLOCK_JOB_RUNNING);
    for (unsigned i = 0; i < t.nsteps && t.result == 0; i++)
        t.result = block_job_step(&t.job, i, t.moved);
    if (t.rests)
        block_job_rest(&t.job);
    t.ms = (double)(monotonic_ns() - begin) / (double)NS_PER_MS;
    t.done = true;
    loop_stop(t.loop);
}

/* What `n` pieces take. */
static double steps_ms(unsigned n, uint64_t moved)
{
    t.nsteps = n;
    t.moved = moved;
    ck_assert_int_eq(co_start(aio_sched(t.aio), operate, NULL), 0);
    while (!t.done)
        ck_assert_int_eq(loop_run(t.loop), 0);
    return t.ms;
}

/* 128 MiB at 1 GiB/s: 125 ms, of which the first 50 are for free. */
START_TEST(a_fast_job_is_as_fast_as_it_may_be)
{
    double ms;

    t.job.speed = 1024 * MIB;
    ms = steps_ms(64, 2 * MIB);
    ck_assert_double_ge(ms, 70);
    ck_assert_double_le(ms, 2900); /* with 50 ms for each piece: 3200 */
    ck_assert_int_eq(t.result, 0);
}
END_TEST

START_TEST(a_slow_job_is_no_faster_than_it_may_be)
{
    t.job.speed = 10 * MIB;
    ck_assert_double_ge(steps_ms(4, MIB), 345);
    ck_assert_uint_eq(t.job.offset, 3);
}
END_TEST

START_TEST(what_moves_nothing_costs_nothing)
{
    t.job.speed = 1024;
    ck_assert_double_le(steps_ms(1000, 0), 30000);
}
END_TEST

START_TEST(what_is_cancelled_does_not_wait)
{
    t.job.speed = 1;
    t.job.cancelled = true;
    t.job.paused = true;
    (void)steps_ms(1, MIB);
    ck_assert_int_eq(t.result, -ECANCELED);
}
END_TEST

START_TEST(whoever_watches_hears_how_far_it_is)
{
    (void)steps_ms(1, 0);
    ck_assert_int_eq(block_job_get_state(&t.job), BLOCK_JOB_RUNNING);
    while (t.nnews == 0)
        ck_assert_int_eq(loop_run(t.loop), 0);
    ck_assert_uint_eq(t.nnews, 1);
}
END_TEST

/* ---- what wakes a job that rests ------------------------------------------------------------- */

static void *want_something_else(void *change)
{
    (void)usleep(600000);
    ((void (*)(void))(uintptr_t)change)();
    return NULL;
}

/* Run a job that rests until `change` is called, on another thread. It sleeps all the time. */
static void assert_woken_by(void (*change)(void))
{
    struct rusage before;
    struct rusage after;
    pthread_t thread;
    double ms;

    ck_assert_int_eq(getrusage(RUSAGE_THREAD, &before), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, want_something_else, (void *)(uintptr_t)change),
                     0);
    ms = steps_ms(1, MIB);
    ck_assert_int_eq(getrusage(RUSAGE_THREAD, &after), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_double_ge(ms, 500);
    ck_assert_int_lt(after.ru_nvcsw - before.ru_nvcsw, 8); /* it would be 12 if it looked */
}

static void let_it_go_on(void)
{
    block_job_let(&t.job, &t.job.paused, false);
}

static void lift_its_limit(void)
{
    block_job_set_speed(&t.job, 0);
}

static void cancel_it(void)
{
    block_job_let(&t.job, &t.job.cancelled, true);
}

START_TEST(what_is_paused_sleeps_until_it_goes_on)
{
    t.job.paused = true;
    assert_woken_by(let_it_go_on);
    ck_assert_int_eq(t.result, 0);
}
END_TEST

START_TEST(what_is_paused_can_be_cancelled)
{
    t.job.paused = true;
    assert_woken_by(cancel_it);
    ck_assert_int_eq(t.result, -ECANCELED);
}
END_TEST

START_TEST(what_is_slow_hears_of_another_speed)
{
    t.job.speed = 1;
    assert_woken_by(lift_its_limit);
    ck_assert_int_eq(t.result, 0);
}
END_TEST

START_TEST(what_is_slow_can_be_cancelled)
{
    t.job.speed = 1;
    assert_woken_by(cancel_it);
    ck_assert_int_eq(t.result, -ECANCELED);
}
END_TEST

/* Its waiter is woken, perhaps for nothing. */
START_TEST(what_rests_is_woken)
{
    t.rests = true;
    assert_woken_by(cancel_it);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "job", set_up, tear_down, a_fast_job_is_as_fast_as_it_may_be,
                   a_slow_job_is_no_faster_than_it_may_be, what_moves_nothing_costs_nothing,
                   what_is_cancelled_does_not_wait, whoever_watches_hears_how_far_it_is,
                   what_is_paused_sleeps_until_it_goes_on, what_is_paused_can_be_cancelled,
                   what_is_slow_hears_of_another_speed, what_is_slow_can_be_cancelled,
                   what_rests_is_woken);
}

UNIT_USES_THREADS;
UNIT_MAIN("job", add_tests)
