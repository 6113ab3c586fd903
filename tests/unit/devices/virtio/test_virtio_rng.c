/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_rng.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/devices/virtio/virtio_rig.h"
#include "tests/lib/host_calls.h"

#define ROUND_BYTES (64 * KIB)

static void start(uint64_t bps)
{
    const struct virtio_rng_options options = {.loop = rig.loop, .bps = bps};
    struct virtio_dev *dev;

    ck_assert_int_eq(virtio_rng_new(&options, rig.mem, &dev), 0);
    rig_add(dev);
}

static void start_and_bring_up(uint64_t bps)
{
    start(bps);
    rig_bring_up();
}

static unsigned count(const uint8_t *data, size_t len, uint8_t byte)
{
    unsigned n = 0;

    for (size_t i = 0; i < len; i++)
        n += data[i] == byte;
    return n;
}

/* Ask for `len` bytes at RIG_DATA_GPA, where there was RIG_UNTOUCHED. Returns what was written. */
static uint32_t ask(uint32_t len)
{
    memset(rig_guest(RIG_DATA_GPA, len), RIG_UNTOUCHED, len);
    (void)rig_add_buffer(0, RIG_DATA_GPA, len, true);
    rig_kick(0);
    return rig_wait_used(0).len;
}

START_TEST(the_device_offers_nothing_of_its_own)
{
    start(0);
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
    ck_assert_uint_eq(driver_features(rig.mmio), VIRTIO_FEATURES_COMMON);
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_CONFIG), 0);
}
END_TEST

START_TEST(a_buffer_is_filled_and_no_more)
{
    uint8_t first[64];

    start_and_bring_up(0);
    memset(rig_guest(RIG_DATA_GPA, 128), RIG_UNTOUCHED, 128);
    ck_assert_uint_eq(ask(sizeof(first)), sizeof(first));
    memcpy(first, rig_guest(RIG_DATA_GPA, sizeof(first)), sizeof(first));
    ck_assert_uint_lt(count(first, sizeof(first), RIG_UNTOUCHED), 16);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA + 64, 64), 64, RIG_UNTOUCHED), 64);
    ck_assert_uint_eq(ask(sizeof(first)), sizeof(first));
    ck_assert_mem_ne(first, rig_guest(RIG_DATA_GPA, sizeof(first)), sizeof(first));
}
END_TEST

START_TEST(all_buffers_of_a_chain_are_filled)
{
    const struct driver_buf bufs[] = {
        {RIG_DATA_GPA, 1, true}, {RIG_DATA_GPA + 64, 100, true}, {RIG_DATA_GPA + 256, 1000, true}};

    start_and_bring_up(0);
    memset(rig_guest(RIG_DATA_GPA, 2048), 0, 2048);
    (void)driver_add(&rig.rings[0], bufs, ARRAY_SIZE(bufs));
    rig_kick(0);
    ck_assert_uint_eq(rig_wait_used(0).len, 1101);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA + 1, 63), 63, 0), 63);
    ck_assert_uint_lt(count(rig_guest(RIG_DATA_GPA + 64, 100), 100, 0), 20);
    ck_assert_uint_lt(count(rig_guest(RIG_DATA_GPA + 256, 1000), 1000, 0), 50);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA + 1256, 500), 500, 0), 500);
}
END_TEST

START_TEST(a_large_buffer_is_filled_in_part)
{
    start_and_bring_up(0);
    ck_assert_uint_eq(ask(1 * MIB), ROUND_BYTES);
    ck_assert_uint_lt(count(rig_guest(RIG_DATA_GPA, ROUND_BYTES), ROUND_BYTES, RIG_UNTOUCHED),
                      ROUND_BYTES / 128);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA + ROUND_BYTES, 4096), 4096, RIG_UNTOUCHED),
                      4096);
}
END_TEST

START_TEST(what_the_device_may_only_read_stays_as_it_is)
{
    start_and_bring_up(0);
    memset(rig_guest(RIG_DATA_GPA, 64), RIG_UNTOUCHED, 64);
    (void)rig_add_buffer(0, RIG_DATA_GPA, 64, false);
    rig_kick(0);
    ck_assert_uint_eq(rig_wait_used(0).len, 0);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA, 64), 64, RIG_UNTOUCHED), 64);
    ck_assert_uint_eq(ask(32), 32);
}
END_TEST

START_TEST(many_requests_are_all_answered)
{
    start(0);
    rig_bring_up_with(driver_features(rig.mmio), 256);
    for (unsigned i = 0; i < 256; i++)
        (void)rig_add_buffer(0, RIG_DATA_GPA + 4096ull * i, 4096, true);
    rig_kick(0);
    for (unsigned i = 0; i < 256; i++)
        ck_assert_uint_gt(rig_wait_used(0).len, 0);
    ck_assert_uint_eq(ask(16), 16);
}
END_TEST

/* Chains as long as they can be: so many descriptors are not looked at in one round. */
START_TEST(long_chains_are_spread_over_rounds)
{
    enum { CHAINS = 16, LENGTH = VIRTQ_CHAIN_MAX };
    const uint64_t table_gpa = 4 * MIB;
    static struct driver_buf bufs[LENGTH];
    struct vring_used_elem elem;
    eventfd_t edges;

    start(0);
    rig_bring_up_with(
        VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC), CHAINS);
    for (unsigned i = 0; i < LENGTH; i++)
        bufs[i] = (struct driver_buf){.gpa = RIG_DATA_GPA, .len = 1, .writable = false};
    for (unsigned i = 0; i < CHAINS; i++)
        (void)driver_add_indirect(&rig.rings[0], table_gpa + 16ull * LENGTH * i, bufs, LENGTH);
    rig_kick(0);
    for (unsigned i = 0; i < CHAINS; i++)
        while (!driver_take(&rig.rings[0], &elem))
            rig_settle();
    rig_settle();
    ck_assert_int_eq(eventfd_read(rig.irq.fd, &edges), 0);
    ck_assert_uint_ge(edges, 4); /* without event indices each round interrupts */
}
END_TEST

/* ---- the limit ------------------------------------------------------------------------------- */

START_TEST(a_limit_makes_the_guest_wait)
{
    uint64_t begin_ns, ns;
    uint32_t total = 0;

    start_and_bring_up(100 * KIB);
    begin_ns = monotonic_ns();
    while (total < 40 * KIB)
        total += ask(4096);
    ns = monotonic_ns() - begin_ns;
    /* A tenth of a second comes at once, and the last request is paid for by the next one. */
    ck_assert_uint_ge(ns, (400 - 100 - 40 - 10) * NS_PER_MS);
    ck_assert_uint_lt(ns, 5 * NS_PER_S);
}
END_TEST

START_TEST(small_buffers_cost_as_much_as_their_work)
{
    uint64_t begin_ns;

    start_and_bring_up(1000);
    begin_ns = monotonic_ns();
    for (unsigned i = 0; i < 6; i++)
        ck_assert_uint_eq(ask(1), 1);
    /* 6 requests of 64 bytes, less the last one and the burst. */
    ck_assert_uint_ge(monotonic_ns() - begin_ns, (5 * 64 - 100 - 10) * NS_PER_MS);
}
END_TEST

/* A request of each kind that has nothing to be filled is paid for too. */
START_TEST(empty_requests_are_not_free)
{
    uint64_t begin_ns;

    start_and_bring_up(1000);
    begin_ns = monotonic_ns();
    for (unsigned i = 0; i < 6; i++) {
        (void)rig_add_buffer(0, RIG_DATA_GPA, 16, false);
        rig_kick(0);
        ck_assert_uint_eq(rig_wait_used(0).len, 0);
    }
    ck_assert_uint_ge(monotonic_ns() - begin_ns, (5 * 64 - 100 - 10) * NS_PER_MS);
}
END_TEST

/* As long as a slow device would need for what waits, a vCPU must not wait for its reset. */
START_TEST(a_reset_does_not_wait_for_the_limit)
{
    uint64_t begin_ns;

    start_and_bring_up(1);
    ck_assert_uint_eq(ask(64), 64);
    memset(rig_guest(RIG_DATA_GPA, 4096), RIG_UNTOUCHED, 4096);
    (void)rig_add_buffer(0, RIG_DATA_GPA, 4096, true);
    rig_kick(0);
    ck_assert(rig_nothing_used(0));
    begin_ns = monotonic_ns();
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_lt(monotonic_ns() - begin_ns, 5 * NS_PER_S);
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA, 4096), 4096, RIG_UNTOUCHED), 4096);
}
END_TEST

START_TEST(a_reset_is_no_way_around_the_limit)
{
    start_and_bring_up(1);
    ck_assert_uint_eq(ask(64), 64);
    rig_bring_up();
    (void)rig_add_buffer(0, RIG_DATA_GPA, 64, true);
    rig_kick(0);
    ck_assert(rig_nothing_used(0));
}
END_TEST

/* ---- a host without random bytes, pauses, bad rings ------------------------------------------ */

START_TEST(a_host_that_has_no_random_bytes_yet_is_asked_again)
{
    host_calls[HOST_RANDOM] = (struct host_call){.fail = 2, .error = EAGAIN};
    start_and_bring_up(0);
    ck_assert_uint_eq(ask(64), 64);
    ck_assert_uint_lt(count(rig_guest(RIG_DATA_GPA, 64), 64, RIG_UNTOUCHED), 16);
    host_calls_reset();
}
END_TEST

START_TEST(a_paused_device_writes_nothing)
{
    start_and_bring_up(0);
    rig_pause();
    memset(rig_guest(RIG_DATA_GPA, 64), RIG_UNTOUCHED, 64);
    (void)rig_add_buffer(0, RIG_DATA_GPA, 64, true);
    rig_kick(0);
    ck_assert(rig_nothing_used(0));
    ck_assert_uint_eq(count(rig_guest(RIG_DATA_GPA, 64), 64, RIG_UNTOUCHED), 64);
    rig_resume();
    ck_assert_uint_eq(rig_wait_used(0).len, 64);
    ck_assert_uint_eq(ask(64), 64);
}
END_TEST

START_TEST(a_pause_stops_the_clock_of_the_limit)
{
    start_and_bring_up(1000);
    ck_assert_uint_eq(ask(600), 600); /* the next one waits for half a second */
    (void)rig_add_buffer(0, RIG_DATA_GPA, 64, true);
    rig_kick(0);
    rig_settle();
    rig_pause();
    (void)usleep(600 * 1000);
    ck_assert(rig_nothing_used(0));
    rig_resume();
    ck_assert_uint_eq(rig_wait_used(0).len, 64);
}
END_TEST

START_TEST(a_bad_ring_asks_for_a_reset_and_works_after_it)
{
    start_and_bring_up(0);
    driver_offer(&rig.rings[0], 17); /* no such descriptor */
    rig_kick(0);
    ck_assert(rig_needs_reset());
    (void)rig_add_buffer(0, RIG_DATA_GPA, 64, true);
    rig_kick(0);
    ck_assert(rig_nothing_used(0));
    rig_bring_up();
    ck_assert_uint_eq(ask(64), 64);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "requests", rig_set_up, rig_tear_down,
                   the_device_offers_nothing_of_its_own, a_buffer_is_filled_and_no_more,
                   all_buffers_of_a_chain_are_filled, a_large_buffer_is_filled_in_part,
                   what_the_device_may_only_read_stays_as_it_is, many_requests_are_all_answered,
                   long_chains_are_spread_over_rounds);
    unit_case_with(suite, "limit", rig_set_up, rig_tear_down, a_limit_makes_the_guest_wait,
                   small_buffers_cost_as_much_as_their_work, empty_requests_are_not_free,
                   a_reset_does_not_wait_for_the_limit, a_reset_is_no_way_around_the_limit);
    unit_case_with(suite, "host", rig_set_up, rig_tear_down,
                   a_host_that_has_no_random_bytes_yet_is_asked_again,
                   a_paused_device_writes_nothing, a_pause_stops_the_clock_of_the_limit,
                   a_bad_ring_asks_for_a_reset_and_works_after_it);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_rng", add_tests)
