/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: pauses, with requests in flight, offered meanwhile, and resets. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/lib/devices/virtio/virtio_blk_rig.h"

/* Whoever pauses: the tickets that it was told. */
static struct {
    struct virtio_pauser pauser;
    sem_t told;
    atomic_ulong ticket;
    atomic_uint ntold;
} who;

static void on_paused(struct virtio_pauser *pauser, uint64_t ticket)
{
    atomic_store(&who.ticket, ticket);
    atomic_fetch_add(&who.ntold, 1);
    sem_post(&who.told);
}

static void ask(uint64_t ticket)
{
    who.pauser.paused = on_paused;
    blk.dev->ops->pause(blk.dev, &who.pauser, ticket);
}

static void wait_told(uint64_t ticket)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += TIMEOUT_MS / 1000;
    ck_assert_int_eq(sem_timedwait(&who.told, &end), 0);
    ck_assert_uint_eq(atomic_load(&who.ticket), ticket);
}

static void resume(void)
{
    blk.dev->ops->resume(blk.dev);
}

static void bring_up(void)
{
    sem_init(&who.told, 0, 0);
    atomic_store(&who.ntold, 0);
    blk_bring_up();
}

static void set_hold(void *opaque)
{
    blk.disk->hold = opaque != NULL;
    if (!opaque)
        fake_block_release(blk.disk);
}

static void hold(void)
{
    loop_call(blk.loop, set_hold, blk.disk);
}

static void let_go(void)
{
    loop_call(blk.loop, set_hold, NULL);
}

START_TEST(idle_device_pauses_and_flushes)
{
    bring_up();
    ask(7);
    wait_told(7);
    ck_assert_uint_eq(blk.disk->nflushes, 1);
    resume();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(device_without_driver_pauses)
{
    sem_init(&who.told, 0, 0);
    blk_start(3);
    ask(1);
    wait_told(1);
    resume();
    blk_settle();
    blk_bring_up_with(driver_features(blk.mmio), 16);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_in_flight_end_first)
{
    bring_up();
    hold();
    (void)blk_add_request(0, VIRTIO_BLK_T_OUT, 0, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ask(1);
    blk_settle();
    ck_assert_uint_eq(atomic_load(&who.ntold), 0);
    ck_assert_uint_eq(blk.disk->nsubmitted, 1); /* a flush that comes too early says nothing */
    let_go();
    wait_told(1);
    ck_assert_uint_eq(blk.disk->nflushes, 1);
    /* The answer is there, and its interrupt. */
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
}
END_TEST

/* As a guest's last kick before its CPUs left it, seen late. */
START_TEST(kick_during_a_pause_is_not_lost)
{
    struct vring_used_elem elem;

    bring_up();
    ask(1);
    wait_told(1);
    (void)blk_add_request(0, VIRTIO_BLK_T_OUT, 0, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 1); /* the flush */
    ck_assert(!driver_take(&blk.ring, &elem));
    resume();
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
    /* Kicks are on again. */
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* While many requests are in flight a queue does without kicks: it must look by itself. */
START_TEST(busy_queue_goes_on_without_a_kick)
{
    bring_up();
    blk_bring_up_with(driver_features(blk.mmio), 64);
    hold();
    for (unsigned i = 0; i < 20; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ask(1);
    blk_settle();
    (void)blk_add_request(20, VIRTIO_BLK_T_IN, 20, DATA_GPA, 512);
    ck_assert(!driver_show(&blk.ring));
    let_go();
    wait_told(1);
    resume();
    for (unsigned i = 0; i < 21; i++)
        (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(20), 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(pause_ended_before_it_was_reached)
{
    bring_up();
    hold();
    (void)blk_add_request(0, VIRTIO_BLK_T_OUT, 0, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ask(1);
    resume();
    blk_settle();
    let_go();
    (void)blk_wait_used(&blk.ring);
    blk_settle();
    ck_assert_uint_eq(atomic_load(&who.ntold), 0);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

/* The first pause's flush hangs; what was written since needs one of its own. */
START_TEST(pause_after_a_pause_that_was_ended_flushes_again)
{
    bring_up();
    hold();
    ask(1);
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 1);
    resume();
    (void)blk_add_request(0, VIRTIO_BLK_T_OUT, 0, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ask(2);
    blk_settle();
    ck_assert_uint_eq(atomic_load(&who.ntold), 0);
    let_go();
    wait_told(2);
    ck_assert_uint_eq(atomic_load(&who.ntold), 1);
    ck_assert_uint_eq(blk.disk->nflushes, 2);
    resume();
    (void)blk_wait_used(&blk.ring);
}
END_TEST

static void set_fail(void *opaque)
{
    blk.disk->fail = -EIO;
}

START_TEST(failed_flush_does_not_keep_it_from_pausing)
{
    bring_up();
    loop_call(blk.loop, set_fail, NULL);
    ask(1);
    wait_told(1);
}
END_TEST

START_TEST(paused_device_can_be_reset)
{
    bring_up();
    ask(1);
    wait_told(1);
    driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
    blk_bring_up_with(driver_features(blk.mmio), 16);
    (void)blk_add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ck_assert_uint_eq(blk.disk->nsubmitted, 1);
    resume();
    (void)blk_wait_used(&blk.ring);
    blk_settle();
}
END_TEST

/* The host answers after a while. */
static void on_late(struct loop_timer *timer)
{
    fake_block_release(blk.disk);
}

static struct loop_timer late = {.expired = on_late};

static void arm_late(void *opaque)
{
    loop_arm(blk.loop, &late, 100000000);
}

/* The rig's end frees the device: it must wait for the flush. */
START_TEST(device_ends_while_it_flushes)
{
    bring_up();
    hold();
    ask(1);
    blk_settle();
    loop_call(blk.loop, arm_late, NULL);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "pause", idle_device_pauses_and_flushes, device_without_driver_pauses,
             requests_in_flight_end_first, kick_during_a_pause_is_not_lost,
             busy_queue_goes_on_without_a_kick, pause_ended_before_it_was_reached,
             pause_after_a_pause_that_was_ended_flushes_again,
             failed_flush_does_not_keep_it_from_pausing, paused_device_can_be_reset,
             device_ends_while_it_flushes);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_pause", add_tests)
