/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: many requests, notifications, several queues, and resets while they run. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "tests/lib/devices/virtio/virtio_blk_rig.h"
#include "tests/lib/dice.h"

/* ---- queues ---------------------------------------------------------------------------------- */

/* Offer `n` reads at once, then see each answered once. */
static void run_many(unsigned n)
{
    static bool seen[VIRTQ_SIZE_MAX];

    memset(seen, 0, sizeof(seen));
    for (unsigned i = 0; i < n; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA + 512ull * i, 512);
    blk_kick();
    for (unsigned i = 0; i < n; i++) {
        struct vring_used_elem elem = blk_wait_used(&blk.ring);

        ck_assert(!seen[elem.id]);
        seen[elem.id] = true;
        ck_assert_uint_eq(elem.len, 513);
    }
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_eq(*blk_guest(STATUS_GPA(i), 1), VIRTIO_BLK_S_OK);
        ck_assert_mem_eq(blk_guest(DATA_GPA + 512ull * i, 512), blk.disk->data + 512ull * i, 512);
    }
}

START_TEST(many_requests_complete_in_any_order)
{
    blk_start(1);
    for (unsigned i = 0; i < DISK_LEN; i++)
        blk.disk->data[i] = (uint8_t)(i / 512 * 7);
    for (unsigned newest = 0; newest < 2; newest++) {
        blk.disk->newest = newest;
        blk_bring_up_with(driver_features(blk.mmio), 1024);
        for (unsigned turn = 0; turn < 5; turn++)
            run_many(1024 / 3);
        blk_bring_up_with(VERSION_1, 1024);
        run_many(1024 / 3);
    }
}
END_TEST

START_TEST(completions_of_one_round_share_an_interrupt)
{
    eventfd_t edges;

    blk.disk->hold = true;
    blk_start(1);
    blk_bring_up_with(VERSION_1, 64); /* without event indices every completion could have one */
    for (unsigned i = 0; i < 20; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    loop_call(blk.loop, fake_block_release, blk.disk);
    blk_settle();
    ck_assert_int_eq(eventfd_read(blk.irq.fd, &edges), 0);
    ck_assert_uint_eq(edges, 1);
    for (unsigned i = 0; i < 20; i++)
        (void)blk_wait_used(&blk.ring);
}
END_TEST

START_TEST(full_ring_is_one_round_and_kicks_come_back)
{
    blk_start(1);
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        blk_bring_up_with(event_idx ? driver_features(blk.mmio)
                                    : VERSION_1 | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
                          8);
        for (unsigned turn = 0; turn < 3; turn++) {
            for (unsigned i = 0; i < 8; i++) {
                const struct driver_buf bufs[] = {{HEADER_GPA(i), 16, false},
                                                  {STATUS_GPA(i), 1, true}};

                blk_put_header(i, VIRTIO_BLK_T_FLUSH + 100, 0); /* answered at once: unsupported */
                (void)driver_add_indirect(&blk.ring, TABLE_GPA + 32ull * i, bufs, 2);
            }
            blk_kick();
            for (unsigned i = 0; i < 8; i++)
                (void)blk_wait_used(&blk.ring);
        }
    }
}
END_TEST

/* Hold `n` requests, then offer one more; does the device want a kick for that one? */
static bool busy_queue_wants_kick(uint64_t features, unsigned n)
{
    bool wanted;

    blk.disk->hold = true;
    blk_bring_up_with(features, 256);
    for (unsigned i = 0; i < n; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA, 512);
    blk_kick();
    blk_settle();
    ck_assert_uint_eq(blk.disk->in_flight, n);
    (void)blk_add_request(n, VIRTIO_BLK_T_IN, n, DATA_GPA, 512);
    wanted = driver_show(&blk.ring);
    if (wanted)
        driver_kick(blk.mmio, 0);
    blk_settle();
    ck_assert_uint_eq(blk.disk->in_flight, wanted ? n + 1 : n);

    blk.disk->hold = false;
    loop_call(blk.loop, fake_block_release, blk.disk);
    for (unsigned i = 0; i < n + 1; i++)
        (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(n), 1), VIRTIO_BLK_S_OK);
    /* With nothing in flight every request is announced. */
    blk_settle();
    (void)blk_add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    ck_assert(driver_show(&blk.ring));
    driver_kick(blk.mmio, 0);
    (void)blk_wait_used(&blk.ring);
    return wanted;
}

START_TEST(queue_with_many_requests_does_without_kicks)
{
    blk_start(1);
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        uint64_t features = event_idx ? driver_features(blk.mmio) : VERSION_1;

        ck_assert(busy_queue_wants_kick(features, 1));
        ck_assert(busy_queue_wants_kick(features, 15));
        ck_assert(!busy_queue_wants_kick(features, 16));
        ck_assert(!busy_queue_wants_kick(features, 40));
    }
}
END_TEST

START_TEST(requests_from_before_driver_ok_need_no_kick)
{
    blk_start(1);
    ck_assert(driver_negotiate(blk.mmio, driver_features(blk.mmio)));
    driver_ring_init(&blk.ring, blk.mem, RING_GPA(0), 16, true);
    ck_assert(driver_setup_queue(blk.mmio, 0, &blk.ring));
    (void)blk_add_request(0, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    (void)driver_show(&blk.ring);
    driver_set_driver_ok(blk.mmio);
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
}
END_TEST

static struct driver_ring rings[3];

/* Three queues of 16 with all features. */
static void bring_up_three(void)
{
    ck_assert(driver_negotiate(blk.mmio, driver_features(blk.mmio)));
    for (unsigned i = 0; i < 3; i++) {
        driver_ring_init(&rings[i], blk.mem, RING_GPA(i), 16, true);
        ck_assert(driver_setup_queue(blk.mmio, i, &rings[i]));
    }
    driver_set_driver_ok(blk.mmio);
}

static void flush_through(unsigned queue)
{
    blk.ring = rings[queue];
    (void)blk_add_request(queue, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    (void)driver_show(&blk.ring);
    driver_kick(blk.mmio, queue);
    rings[queue] = blk.ring;
}

START_TEST(several_queues_work_side_by_side)
{
    blk_start(3);
    bring_up_three();
    for (unsigned i = 0; i < 3; i++)
        flush_through(i);
    for (unsigned i = 0; i < 3; i++) {
        (void)blk_wait_used(&rings[i]);
        ck_assert_uint_eq(*blk_guest(STATUS_GPA(i), 1), VIRTIO_BLK_S_OK);
    }
}
END_TEST

START_TEST(broken_ring_stops_the_device_until_reset)
{
    blk_start(3);
    bring_up_three();
    driver_offer(&rings[0], 999);
    (void)driver_show(&rings[0]);
    driver_kick(blk.mmio, 0);
    ck_assert(driver_wait_irq(&blk.irq, TIMEOUT_MS));
    ck_assert_uint_eq(driver_ack(blk.mmio), VIRTIO_MMIO_INT_CONFIG);
    ck_assert(driver_read32(blk.mmio, VIRTIO_MMIO_STATUS) & NEEDS_RESET);

    /* The other queues, too. */
    flush_through(1);
    blk_settle();
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(1), 1), UNTOUCHED);

    bring_up_three();
    flush_through(1);
    (void)blk_wait_used(&rings[1]);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(1), 1), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(requests_before_a_broken_one_are_answered)
{
    blk_bring_up();
    (void)blk_add_request(0, VIRTIO_BLK_T_IN, 0, DATA_GPA, 512);
    driver_offer(&blk.ring, 999);
    blk_kick();
    (void)blk_wait_used(&blk.ring);
    ck_assert_uint_eq(*blk_guest(STATUS_GPA(0), 1), VIRTIO_BLK_S_OK);
    ck_assert(driver_read32(blk.mmio, VIRTIO_MMIO_STATUS) & NEEDS_RESET);
}
END_TEST

/* ---- reset ----------------------------------------------------------------------------------- */

static void *reset_device(void *arg)
{
    driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
    return NULL;
}

static void sleep_ms(unsigned ms)
{
    const struct timespec ts = {.tv_nsec = ms * 1000000L};

    nanosleep(&ts, NULL);
}

START_TEST(reset_waits_for_requests_in_flight)
{
    pthread_t vcpu;

    blk.disk->hold = true;
    blk_bring_up();
    for (unsigned i = 0; i < 4; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_IN, i, DATA_GPA + 512ull * i, 512);
    blk_kick();
    blk_settle();
    ck_assert_int_eq(pthread_create(&vcpu, NULL, reset_device, NULL), 0);
    sleep_ms(30);
    /* It cannot be over; and another vCPU in its interrupt handler does not wait for it. */
    ck_assert_int_eq(pthread_tryjoin_np(vcpu, NULL), EBUSY);
    (void)driver_read32(blk.mmio, VIRTIO_MMIO_INTERRUPT_STATUS);
    loop_call(blk.loop, fake_block_release, blk.disk);
    ck_assert_int_eq(pthread_join(vcpu, NULL), 0);
    blk_settle();
    ck_assert_uint_eq(blk.disk->in_flight, 0);
    ck_assert_uint_eq(driver_read32(blk.mmio, VIRTIO_MMIO_STATUS), 0);

    blk_bring_up_with(driver_features(blk.mmio), 16);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, 0, 512, NULL), VIRTIO_BLK_S_OK);
}
END_TEST

START_TEST(end_of_the_machine_waits_for_requests_in_flight)
{
    blk_bring_up();
    for (unsigned i = 0; i < 4; i++)
        (void)blk_add_request(i, VIRTIO_BLK_T_OUT, i, DATA_GPA, 512);
    blk_kick();
    blk_settle(); /* tear_down frees the device; the fake checks that nothing is in flight */
}
END_TEST

static uint64_t dice;

/*
 * Memory of its own for each request that may be in flight: named by the head it is going to have.
 */
static void add_random_request(void)
{
    uint16_t head = blk.ring.free[blk.ring.nfree - 3];

    (void)blk_add_request(head, dice_roll(&dice, 3) ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
                          dice_roll(&dice, DISK_SECTORS - 8), DATA_GPA + 4096ull * head,
                          512 * (1 + dice_roll(&dice, 8)));
}

/* Keep requests coming and look at some answers; leaves some in flight. */
static void random_traffic(unsigned nrounds)
{
    struct vring_used_elem elem;

    for (unsigned round = 0; round < nrounds; round++) {
        unsigned n = dice_roll(&dice, 8);

        for (unsigned i = 0; i < n && blk.ring.nfree >= 3; i++)
            add_random_request();
        blk_kick();
        if (dice_roll(&dice, 2))
            (void)driver_want_interrupt(&blk.ring);
        while (driver_take(&blk.ring, &elem))
            ;
    }
}

static bool is_untouched(const uint8_t *data, size_t len)
{
    return data[0] == UNTOUCHED && memcmp(data, data + 1, len - 1) == 0;
}

/* After a reset the memory is the guest's again: nothing of it may change. */
static void check_memory_left_alone(void)
{
    const size_t data_len = 4 * MIB; /* 1024 requests */
    const size_t rings_len = 64 * KIB;
    uint8_t *data = blk_guest(DATA_GPA, data_len);
    uint8_t *used = blk_guest(RING_GPA(0), rings_len);

    memset(data, UNTOUCHED, data_len);
    memset(used, UNTOUCHED, rings_len);
    blk_settle();
    ck_assert(is_untouched(data, data_len));
    ck_assert(is_untouched(used, rings_len));
}

START_TEST(resets_at_any_moment_leave_memory_alone)
{
    dice = unit_seed();
    blk_start(1);
    for (unsigned turn = 0; turn < 60; turn++) {
        blk_bring_up_with(dice_roll(&dice, 2) ? driver_features(blk.mmio) : VERSION_1,
                          (uint16_t)(1u << (2 + dice_roll(&dice, 9))));
        random_traffic(dice_roll(&dice, 60));
        if (dice_roll(&dice, 2)) {
            driver_write32(blk.mmio, VIRTIO_MMIO_QUEUE_SEL, 0);
            driver_write32(blk.mmio, VIRTIO_MMIO_QUEUE_READY, 0);
        } else {
            driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
        }
        check_memory_left_alone();
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "queues", many_requests_complete_in_any_order,
             completions_of_one_round_share_an_interrupt,
             full_ring_is_one_round_and_kicks_come_back,
             queue_with_many_requests_does_without_kicks,
             requests_from_before_driver_ok_need_no_kick, several_queues_work_side_by_side,
             broken_ring_stops_the_device_until_reset, requests_before_a_broken_one_are_answered);
    blk_case(suite, "reset", reset_waits_for_requests_in_flight,
             end_of_the_machine_waits_for_requests_in_flight,
             resets_at_any_moment_leave_memory_alone);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_queues", add_tests)
