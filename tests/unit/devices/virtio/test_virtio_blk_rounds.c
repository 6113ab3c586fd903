/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: what it does in a round of its loop, beside a driver that does not stand still. The
 * device's view of the queue is watched by standing in for virtq_pop.
 */
#include "devices/virtio/virtq.h"

/* The module itself, under another name: the library's is left out then. */
int real_virtq_pop(struct virtq *vq, struct virtq_chain *ret_chain);
#define virtq_pop real_virtq_pop
#include "devices/virtio/virtq.c" // NOLINT(bugprone-suspicious-include)
#undef virtq_pop

#include <malloc.h>
#include <unistd.h>

#include "base/idle_memory.h"
#include "tests/lib/devices/virtio/virtio_blk_rig.h"
#include "tests/lib/host_calls.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHER_HEAP 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define OTHER_HEAP 1
#endif

/* What the driver does after each pop; on the loop's thread. NULL: nothing. */
static void (*after_pop)(int result);

int virtq_pop(struct virtq *vq, struct virtq_chain *ret_chain)
{
    int r = real_virtq_pop(vq, ret_chain);
    void (*fn)(int result) = __atomic_load_n(&after_pop, __ATOMIC_ACQUIRE);

    if (fn) {
        blk_see_kick();
        fn(r);
    }
    return r;
}

static void set_after_pop(void (*fn)(int result))
{
    __atomic_store_n(&after_pop, fn, __ATOMIC_RELEASE);
}

/* ---- a driver that refills while its requests are looked at ---------------------------------- */

#define REFILLS 20000u

/* No more than this in a round: far less than the driver is ready to add. */
#define POPS_MAX (REFILLS / 2)

static unsigned refills;
static uint16_t refill_head;
static unsigned pops_in_round;
static unsigned max_pops_in_round;
static struct loop_work other_work;

static void refill(int result)
{
    if (result != 1)
        return;
    pops_in_round++;
    if (pops_in_round > max_pops_in_round)
        max_pops_in_round = pops_in_round;
    if (refills == 0)
        return;
    refills--;
    driver_offer(&blk.ring, refill_head); /* what was answered may be offered again */
    (void)driver_show(&blk.ring);
}

static void do_other_work(struct loop_work *work)
{
    pops_in_round = 0;
    if (refills > 0)
        loop_post(blk.loop, work);
}

static void ask_whether_refilled(void *opaque)
{
    *(bool *)opaque = refills == 0;
}

static void wait_for_refills(void)
{
    bool done = false;

    while (!done)
        loop_call(blk.loop, ask_whether_refilled, &done);
}

START_TEST(driver_that_refills_leaves_the_loop_to_others)
{
    const struct driver_buf bufs[] = {{HEADER_GPA(0), 16, false}, {STATUS_GPA(0), 1, true}};

    blk_bring_up();
    blk_put_header(0, VIRTIO_BLK_T_FLUSH + 100, 0); /* answered at once: unsupported */
    refill_head = driver_add(&blk.ring, bufs, 2);
    refills = REFILLS;
    set_after_pop(refill);
    other_work.run = do_other_work;
    loop_post(blk.loop, &other_work);
    blk_kick();
    wait_for_refills();
    blk_settle();
    set_after_pop(NULL);
    ck_assert_uint_le(max_pops_in_round, POPS_MAX);
}
END_TEST

/* ---- chains that no kick announces ----------------------------------------------------------- */

static bool is_late;

static void add_one_that_is_late(int result)
{
    if (result != 0 || is_late)
        return;
    is_late = true;
    (void)blk_add_request(1, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    ck_assert(!driver_show(&blk.ring)); /* the device said that it looks by itself */
}

START_TEST(chain_between_the_last_look_and_the_wish_for_kicks_is_found)
{
    blk_start(1);
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        is_late = false;
        blk_bring_up_with(event_idx ? driver_features(blk.mmio) : VERSION_1, 16);
        blk_settle(); /* it has looked at the empty ring */
        set_after_pop(add_one_that_is_late);
        (void)blk_add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
        blk_kick();
        (void)blk_wait_used(&blk.ring);
        (void)blk_wait_used(&blk.ring);
        set_after_pop(NULL);
        ck_assert_uint_eq(*blk_guest(STATUS_GPA(1), 1), VIRTIO_BLK_S_OK);
    }
}
END_TEST

static unsigned npops;

static void count_pop(int result)
{
    npops++;
}

/* A kick that stays, because its eventfd is not read, would make the loop come round for ever. */
START_TEST(kick_is_told_of_once)
{
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
    blk_settle();
    npops = 0;
    set_after_pop(count_pop);
    usleep(20000);
    set_after_pop(NULL);
    blk_settle();
    ck_assert_uint_eq(npops, 0);
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

#ifndef OTHER_HEAP

#define POOL_REQUESTS 200u

/* Bookkeeping of the device for requests of the greatest length. */
#define POOL_BYTES ((size_t)POOL_REQUESTS * VIRTQ_CHAIN_MAX * sizeof(struct iovec))

static void add_longest_requests(void)
{
    static struct driver_buf bufs[VIRTQ_CHAIN_MAX];

    for (unsigned i = 0; i < VIRTQ_CHAIN_MAX; i++)
        bufs[i] = (struct driver_buf){DATA_GPA, 512, true};
    for (unsigned i = 0; i < POOL_REQUESTS; i++) {
        blk_put_header(i, VIRTIO_BLK_T_IN, 0);
        bufs[0] = (struct driver_buf){HEADER_GPA(i), 16, false};
        bufs[VIRTQ_CHAIN_MAX - 1] = (struct driver_buf){STATUS_GPA(i), 1, true};
        (void)driver_add_indirect(&blk.ring, TABLE_GPA, bufs, VIRTQ_CHAIN_MAX);
        /* One table for all: they differ in nothing that matters here. */
    }
}

/* Its own memory, while another part of the process works: what all use stays. */
START_TEST(idle_queue_gives_its_memory_back)
{
    size_t before;
    size_t waited_ms = 0;

    host_calls_reset();
    idle_memory_work_begins();
    blk.disk->hold = true;
    blk_start(1);
    blk_bring_up_with(driver_features(blk.mmio), 256);
    before = mallinfo2().uordblks;
    add_longest_requests();
    blk_kick();
    while (mallinfo2().uordblks - before < POOL_BYTES)
        blk_settle();
    loop_call(blk.loop, fake_block_release, blk.disk);
    for (unsigned i = 0; i < POOL_REQUESTS; i++)
        (void)blk_wait_used(&blk.ring);

    while (mallinfo2().uordblks > before + POOL_BYTES / 100 && waited_ms < TIMEOUT_MS) {
        usleep(100000);
        waited_ms += 100;
    }
    ck_assert_uint_lt(waited_ms, TIMEOUT_MS);
    ck_assert_uint_ge(waited_ms, 1500); /* not at once: the next requests use it again */
    blk_settle();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 0);
    blk.disk->hold = false;
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

#endif

START_TEST(queue_that_was_reset_does_not_work)
{
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
    driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
    host_calls_reset();
    idle_memory_work_begins();
    idle_memory_work_ends();
    ck_assert_uint_eq(host_calls[HOST_TRIM].count, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "rounds", driver_that_refills_leaves_the_loop_to_others,
             chain_between_the_last_look_and_the_wish_for_kicks_is_found, kick_is_told_of_once);
#ifndef OTHER_HEAP
    blk_case(suite, "memory", idle_queue_gives_its_memory_back);
#endif
    blk_case(suite, "work", queue_that_was_reset_does_not_work);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_rounds", add_tests)
