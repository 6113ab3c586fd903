/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: requests that fail on the host, and are kept until the VM goes on. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "tests/lib/devices/virtio/virtio_blk_rig.h"

static struct {
    struct virtio_pauser pauser;
    sem_t paused;
    atomic_uint nfailed;
    atomic_uint nkept;
    atomic_bool read;
    atomic_int error;
    struct virtio_blk_failure last; /* look at it when the device has settled */
} who;

static void on_failed(void *opaque, const struct virtio_blk_failure *failure)
{
    atomic_fetch_add(&who.nfailed, 1);
    atomic_fetch_add(&who.nkept, failure->kept);
    atomic_store(&who.read, failure->read);
    atomic_store(&who.error, failure->error);
    who.last = *failure;
}

static void on_paused(struct virtio_pauser *pauser, uint64_t ticket)
{
    sem_post(&who.paused);
}

static void set_fail(void *opaque)
{
    blk.disk->fail = *(const int *)opaque;
}

static void fail_with(int error)
{
    loop_call(blk.loop, set_fail, &error);
}

static void bring_up(enum virtio_blk_on_error on_write, enum virtio_blk_on_error on_read)
{
    who = (typeof(who)){.pauser.paused = on_paused};
    sem_init(&who.paused, 0, 0);
    blk.on_write_error = on_write;
    blk.on_read_error = on_read;
    blk.failed = on_failed;
    blk_bring_up();
}

static void pause_device(void)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += TIMEOUT_MS / 1000;
    blk.dev->ops->pause(blk.dev, &who.pauser, 1);
    ck_assert_int_eq(sem_timedwait(&who.paused, &end), 0);
}

static void resume(void)
{
    blk.dev->ops->resume(blk.dev);
}

/* Offer one request, and let the device look at it. */
static void offer(unsigned i, uint32_t type)
{
    (void)blk_add_request(i, type, i, DATA_GPA + 512ull * i, 512);
    blk_kick();
    blk_settle();
}

static bool is_answered(void)
{
    struct vring_used_elem elem;

    return driver_take(&blk.ring, &elem);
}

START_TEST(write_waits_until_the_device_goes_on)
{
    memset(blk_guest(DATA_GPA, 512), 0x5a, 512);
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    offer(0, VIRTIO_BLK_T_OUT);
    ck_assert(!is_answered());
    ck_assert_uint_eq(atomic_load(&who.nkept), 1);
    ck_assert(!atomic_load(&who.read));
    ck_assert_int_eq(atomic_load(&who.error), -ENOSPC);
    pause_device(); /* what is kept is not in flight */
    ck_assert(!is_answered());
    fail_with(0);
    resume();
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk.disk->data[511], 0x5a);
}
END_TEST

START_TEST(write_that_fails_again_is_kept_again)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    offer(0, VIRTIO_BLK_T_OUT);
    for (unsigned turn = 2; turn < 5; turn++) {
        pause_device();
        resume();
        blk_settle();
        ck_assert_uint_eq(atomic_load(&who.nkept), turn);
    }
    ck_assert(!is_answered());
    fail_with(0);
    resume(); /* without a pause: it may have been ended before it came here */
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
}
END_TEST

/* What was noted before the device was told to go on is no reason to pause again. */
START_TEST(what_is_tried_again_does_not_wait)
{
    struct virtio_blk_failure first;

    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    offer(0, VIRTIO_BLK_T_OUT);
    first = who.last;
    ck_assert(virtio_blk_waits(blk.dev, &first));
    pause_device();
    ck_assert(virtio_blk_waits(blk.dev, &first));
    resume();
    ck_assert(!virtio_blk_waits(blk.dev, &first));
    blk_settle(); /* it failed again */
    ck_assert(!virtio_blk_waits(blk.dev, &first));
    ck_assert(virtio_blk_waits(blk.dev, &who.last));
    fail_with(0);
    resume();
    (void)blk_wait_used(&blk.ring);
    ck_assert(!virtio_blk_waits(blk.dev, &who.last));
}
END_TEST

/* What each policy makes of an error. */
static const struct policy {
    enum virtio_blk_on_error on_write;
    enum virtio_blk_on_error on_read;
    uint32_t type;
    int error;
    bool kept;
} policies[] = {
    {VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_T_OUT, -ENOSPC, false},
    {VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_IN, -EIO, false},
    {VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_T_IN, -EIO, true},
    {VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EIO, true},
    {VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_FLUSH, -EIO, true},
    {VIRTIO_BLK_ERROR_STOP_IF_FULL, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EIO, false},
    {VIRTIO_BLK_ERROR_STOP_IF_FULL, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_OUT, -EDQUOT, true},
    {VIRTIO_BLK_ERROR_STOP_IF_FULL, VIRTIO_BLK_ERROR_REPORT, VIRTIO_BLK_T_FLUSH, -ENOSPC, true},
};

START_TEST(policies_say_what_is_kept)
{
    const struct policy *policy = &policies[_i];

    bring_up(policy->on_write, policy->on_read);
    fail_with(policy->error);
    offer(0, policy->type);
    ck_assert_uint_eq(atomic_load(&who.nfailed), 1);
    ck_assert_uint_eq(atomic_load(&who.nkept), policy->kept);
    ck_assert_uint_eq(is_answered(), !policy->kept);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), policy->kept ? UNTOUCHED : VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(requests_are_tried_again_in_their_order)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    for (unsigned i = 0; i < 5; i++)
        offer(i, VIRTIO_BLK_T_OUT);
    fail_with(0);
    resume();
    for (unsigned i = 0; i < 5; i++)
        (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(blk.disk->last.off, 2048);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(*blk_guest(STATUS_GPA(i), 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(reset_answers_what_is_kept)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    offer(0, VIRTIO_BLK_T_OUT);
    driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0); /* would wait for ever */
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_IOERR);
    fail_with(0);
    blk_bring_up_with(driver_features(blk.mmio), 16);
    resume();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk.disk->nsubmitted, 2); /* it is not tried again */
}
END_TEST

/* tear_down frees the device: the kept request is no reason to wait. */
START_TEST(machine_ends_with_requests_kept)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    fail_with(-ENOSPC);
    offer(0, VIRTIO_BLK_T_OUT);
    if (_i)
        pause_device();
}
END_TEST

START_TEST(guest_that_shall_end_is_told)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_STOP);
    fail_with(-EIO);
    offer(0, VIRTIO_BLK_T_OUT);
    if (_i)
        pause_device();
    virtio_blk_report_errors(blk.dev);
    if (_i)
        resume();
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_IOERR);
}
END_TEST

/* While many requests are kept, kicks are off: those offered meanwhile must be seen. */
START_TEST(busy_queue_goes_on_after_many_failures)
{
    bring_up(VIRTIO_BLK_ERROR_STOP, VIRTIO_BLK_ERROR_REPORT);
    blk_bring_up_with(driver_features(blk.mmio), 64);
    fail_with(-ENOSPC);
    for (unsigned i = 0; i < 18; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_OUT, i, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    (void)blk_add_request(18, VIRTIO_BLK_T_OUT, 18, DATA_GPA, 512);
    (void)driver_show(&blk.ring);
    pause_device();
    fail_with(0);
    resume();
    for (unsigned i = 0; i < 19; i++)
        (void)blk_wait_used(&blk.ring);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "stall", write_waits_until_the_device_goes_on,
             write_that_fails_again_is_kept_again, what_is_tried_again_does_not_wait,
             requests_are_tried_again_in_their_order, reset_answers_what_is_kept,
             busy_queue_goes_on_after_many_failures);
    blk_add_loop_case(suite, "policies", policies_say_what_is_kept, ARRAY_SIZE(policies));
    blk_add_loop_case(suite, "ends", machine_ends_with_requests_kept, 2);
    blk_add_loop_case(suite, "told", guest_that_shall_end_is_told, 2);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_stall", add_tests)
