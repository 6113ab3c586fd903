/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits on a disk, as its guest meets them: block/port.c behind a device.
 */
#include <errno.h>
#include <semaphore.h>

#include "base/clock.h"
#include "tests/lib/devices/virtio/virtio_blk_rig.h"

/* Bytes per second: the first sector comes through, and the second one in nine minutes. */
#define NEVER 1

static struct throttle_limits limits;

static void set_limits(void *opaque)
{
    block_port_set_limits(&blk.port, &limits);
}

static void limit(enum throttle_kind kind, uint64_t avg)
{
    throttle_limits_init(&limits);
    limits.kinds[kind].avg = avg;
    loop_call(blk.loop, set_limits, NULL);
}

/* A device whose queue holds `n` reads, of which one came through. */
static void hold_reads(unsigned n)
{
    blk_start(1);
    blk_bring_up_with(driver_features(blk.mmio), 64);
    limit(THROTTLE_BPS, NEVER);
    for (unsigned i = 0; i < n; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    (void)blk_wait_used(&blk.ring);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 1);
}

static void take_all(unsigned n, uint8_t status)
{
    for (unsigned i = 0; i < n; i++)
        (void)blk_wait_used(&blk.ring);
    for (unsigned i = 1; i <= n; i++)
        ck_assert_uint_eq(*blk_guest(STATUS_GPA(i), 1), status);
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 0);
}

START_TEST(requests_wait_for_their_time)
{
    const uint64_t begin_ns = monotonic_ns();

    blk_start(1);
    blk_bring_up_with(driver_features(blk.mmio), 256);
    limit(THROTTLE_IOPS, 100);
    /* Eleven at once, the rest in 0.3 s. */
    for (unsigned i = 0; i < 41; i++)
        (void)blk_add_request(i, i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    for (unsigned i = 0; i < 41; i++)
        (void)blk_wait_used(&blk.ring);
    ck_assert_uint_ge(monotonic_ns() - begin_ns, 290 * NS_PER_MS);
    ck_assert_uint_lt(monotonic_ns() - begin_ns, 30 * NS_PER_S);
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 0);
}
END_TEST

START_TEST(flushes_do_not_wait)
{
    hold_reads(5);
    (void)blk_add_request(10, VIRTIO_BLK_T_FLUSH, 0, DATA_GPA, 0);
    blk_kick();
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(blk.disk->nflushes, 1);
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 4);
}
END_TEST

START_TEST(those_that_wait_are_in_flight)
{
    hold_reads(20);
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 19);
}
END_TEST

START_TEST(limits_taken_away_let_all_go)
{
    hold_reads(20);
    limit(THROTTLE_IOPS, 0);
    take_all(19, VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(other_limits_hold_for_those_that_wait)
{
    hold_reads(20);
    limit(THROTTLE_IOPS, 1000);
    take_all(19, VIRTIO_BLK_S_OK);
}
END_TEST

/* From another thread, as the machine ends. */
START_TEST(a_cancelled_disk_lets_all_go_at_once)
{
    hold_reads(20);
    block_port_set_cancel(&blk.port, true);
    take_all(19, VIRTIO_BLK_S_OK); /* the disk behind is a fake, and takes no notice */
    ck_assert(blk.disk->cancelled);
    (void)blk_add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    (void)blk_add_request(1, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    blk_kick();
    for (unsigned i = 0; i < 2; i++)
        (void)blk_wait_used(&blk.ring); /* nor does any that comes later wait */

    block_port_set_cancel(&blk.port, false);
    limit(THROTTLE_BPS, NEVER);
    for (unsigned i = 0; i < 3; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    blk_kick();
    (void)blk_wait_used(&blk.ring);
    blk_settle();
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 2);
}
END_TEST

/* A driver that resets its device does not wait for hours, and gains nothing by it. */
START_TEST(a_queue_that_stops_forgets_those_that_wait)
{
    hold_reads(20);
    for (unsigned reset = 0; reset < 3; reset++) {
        driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
        ck_assert_uint_eq(blk.disk->nsubmitted, 1);
        ck_assert_uint_eq(block_port_in_flight(&blk.port), 0);

        blk_bring_up_with(driver_features(blk.mmio), 64);
        for (unsigned i = 0; i < 3; i++)
            (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
        blk_kick();
        blk_settle();
        ck_assert_uint_eq(block_port_in_flight(&blk.port), 3);
    }
}
END_TEST

static bool is_another(const struct block_req *req, const void *one)
{
    return &req->link != one;
}

static void withdraw_others(void *opaque)
{
    block_port_withdraw(&blk.port, is_another, list_first(&blk.port.throttle.waiting[0]));
}

START_TEST(only_those_that_are_meant_are_forgotten)
{
    hold_reads(5);
    loop_call(blk.loop, withdraw_others, NULL);
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 1);
    limit(THROTTLE_BPS, 0);
    for (unsigned i = 0; i < 4; i++)
        (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(blk.disk->nsubmitted, 2);
}
END_TEST

static sem_t paused;

static void on_paused(struct virtio_pauser *pauser, uint64_t ticket)
{
    sem_post(&paused);
}

START_TEST(a_pause_lets_all_go_and_the_limits_come_back)
{
    struct virtio_pauser pauser = {.paused = on_paused};

    sem_init(&paused, 0, 0);
    hold_reads(20);
    blk.dev->ops->pause(blk.dev, &pauser, 1);
    while (sem_wait(&paused) < 0)
        ; /* EINTR */
    ck_assert_uint_eq(block_port_in_flight(&blk.port), 0);
    take_all(19, VIRTIO_BLK_S_OK);

    blk.dev->ops->resume(blk.dev);
    for (unsigned i = 0; i < 3; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ck_assert_uint_ge(block_port_in_flight(&blk.port), 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "waiting", requests_wait_for_their_time, flushes_do_not_wait,
             those_that_wait_are_in_flight);
    blk_case(suite, "let go", limits_taken_away_let_all_go, other_limits_hold_for_those_that_wait,
             a_cancelled_disk_lets_all_go_at_once, a_pause_lets_all_go_and_the_limits_come_back,
             a_queue_that_stops_forgets_those_that_wait, only_those_that_are_meant_are_forgotten);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_limits", add_tests)
