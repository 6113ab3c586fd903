/* SPDX-License-Identifier: Apache-2.0 */
/* Failures of a disk on their way to the main loop. */
#include <errno.h>
#include <pthread.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "tests/lib/unit.h"
#include "vmm/disk_failure.h"

static struct loop *loop;
static struct disk_failures failures;
static unsigned ntold;
static struct virtio_blk_failure told;

static void tell(struct disk_failures *of, const struct virtio_blk_failure *failure)
{
    ck_assert_ptr_eq(of, &failures);
    ntold++;
    told = *failure;
}

static void on_end(struct loop_timer *timer)
{
    loop_stop(loop);
}

static void run_loop(void)
{
    struct loop_timer timer = {.expired = on_end};

    loop_arm(loop, &timer, 1000000);
    ck_assert_int_eq(loop_run(loop), 0);
}

static void set_up(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
    disk_failures_init(&failures, loop, tell);
    ntold = 0;
}

static void tear_down(void)
{
    disk_failures_done(&failures);
    loop_free(loop);
}

static void note(bool read, bool kept, int error)
{
    const struct virtio_blk_failure failure = {.read = read, .kept = kept, .error = error};

    disk_failures_note(&failures, &failure);
}

START_TEST(one_is_told_for_many)
{
    for (int i = 0; i < 10; i++)
        note(false, false, -EIO - i);
    run_loop();
    ck_assert_uint_eq(ntold, 1);
    ck_assert_int_eq(told.error, -EIO);
    run_loop();
    ck_assert_uint_eq(ntold, 1);
    note(true, false, -EPERM); /* soon after the other */
    run_loop();
    ck_assert_uint_eq(ntold, 1);
    failures.told_ns -= 2 * NS_PER_S;
    note(true, false, -EPERM);
    run_loop();
    ck_assert_uint_eq(ntold, 2);
    ck_assert(told.read);
    note(false, true, -ENOSPC);
    run_loop();
    ck_assert_uint_eq(ntold, 3);
}
END_TEST

/* Otherwise nobody would pause the VM, and the request would wait for ever. */
START_TEST(kept_request_is_told_before_others)
{
    note(true, false, -EIO);
    note(false, true, -ENOSPC);
    note(false, true, -EDQUOT);
    note(true, false, -EIO);
    run_loop();
    ck_assert_uint_eq(ntold, 1);
    ck_assert(told.kept);
    ck_assert_int_eq(told.error, -ENOSPC);
}
END_TEST

/* The earlier one may be tried again already, and then says nothing of this one. */
START_TEST(kept_request_of_a_later_round_is_told)
{
    const struct virtio_blk_failure earlier = {.kept = true, .error = -ENOSPC, .round = 1};
    const struct virtio_blk_failure later = {.kept = true, .error = -EDQUOT, .round = 2};
    const struct virtio_blk_failure not_kept = {.error = -EIO, .round = 2};

    disk_failures_note(&failures, &earlier);
    disk_failures_note(&failures, &later);
    disk_failures_note(&failures, &not_kept);
    run_loop();
    ck_assert_uint_eq(ntold, 1);
    ck_assert_uint_eq(told.round, 2);
    ck_assert_int_eq(told.error, -EDQUOT);
}
END_TEST

START_TEST(end_takes_back_what_was_not_told)
{
    note(false, true, -ENOSPC);
    disk_failures_done(&failures);
    run_loop();
    ck_assert_uint_eq(ntold, 0);
    disk_failures_init(&failures, loop, tell);
}
END_TEST

static void *note_main(void *arg)
{
    for (int i = 0; i < 1000; i++)
        note(false, i % 100 == 0, -EIO);
    return NULL;
}

START_TEST(failures_of_another_thread)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, note_main, NULL), 0);
    for (int i = 0; i < 5; i++)
        run_loop();
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    run_loop();
    ck_assert_uint_ge(ntold, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("disk_failure");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, one_is_told_for_many);
    tcase_add_test(tcase, kept_request_is_told_before_others);
    tcase_add_test(tcase, kept_request_of_a_later_round_is_told);
    tcase_add_test(tcase, end_takes_back_what_was_not_told);
    tcase_add_test(tcase, failures_of_another_thread);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("disk_failure", add_tests)
