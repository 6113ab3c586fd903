/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: a disk that gets another length while its driver runs. */
#include "tests/lib/devices/virtio/virtio_blk_rig.h"

static void resize(void *opaque)
{
    blk.disk->info.len = *(const uint64_t *)opaque;
    block_port_resized(&blk.port);
}

static void resize_to(uint64_t len)
{
    loop_call(blk.loop, resize, &len);
}

static uint32_t generation(void)
{
    return driver_read32(blk.mmio, VIRTIO_MMIO_CONFIG_GENERATION);
}

static uint64_t capacity(void)
{
    const uint32_t at = VIRTIO_MMIO_CONFIG;

    return driver_read32(blk.mmio, at) | (uint64_t)driver_read32(blk.mmio, at + 4) << 32;
}

START_TEST(the_driver_is_told_of_the_new_capacity)
{
    uint32_t before;

    blk_bring_up();
    ck_assert_uint_eq(capacity(), DISK_SECTORS);
    before = generation();
    resize_to(5ull << 40);
    ck_assert(driver_wait_irq(&blk.irq, TIMEOUT_MS));
    ck_assert(driver_ack(blk.mmio) & VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(capacity(), (5ull << 40) / 512);
    ck_assert_uint_ne(generation(), before);
}
END_TEST

START_TEST(an_equal_length_is_no_news)
{
    uint32_t before;

    blk_bring_up();
    before = generation();
    resize_to(DISK_LEN);
    ck_assert_uint_eq(generation(), before);
    ck_assert(!(driver_ack(blk.mmio) & VIRTIO_MMIO_INT_CONFIG));
}
END_TEST

START_TEST(requests_reach_what_was_added)
{
    blk_bring_up();
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, DISK_SECTORS, 512, NULL), VIRTIO_BLK_S_IOERR);
    blk.disk->data = realloc(blk.disk->data, DISK_LEN + 4096);
    resize_to(DISK_LEN + 4096);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_OUT, DISK_SECTORS, 512, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(blk_request(VIRTIO_BLK_T_IN, DISK_SECTORS + 8, 512, NULL),
                      VIRTIO_BLK_S_IOERR);
}
END_TEST

START_TEST(after_a_reset_nobody_is_told)
{
    uint32_t before;

    blk_bring_up();
    driver_write32(blk.mmio, VIRTIO_MMIO_STATUS, 0);
    before = generation();
    resize_to(DISK_LEN / 2);
    ck_assert_uint_eq(generation(), before);
    ck_assert_ptr_null(blk.port.user);
}
END_TEST

/* The driver may have read the capacity before, and is told of it when it is there. */
START_TEST(a_driver_that_is_about_to_start_is_told)
{
    uint64_t features;

    blk_start(1);
    features = driver_features(blk.mmio);
    ck_assert(driver_negotiate(blk.mmio, features));
    ck_assert_uint_eq(capacity(), DISK_SECTORS);
    resize_to(DISK_LEN / 2);
    driver_ring_init(&blk.ring, blk.mem, RING_GPA(0), 16, true);
    ck_assert(driver_setup_queue(blk.mmio, 0, &blk.ring));
    driver_set_driver_ok(blk.mmio);
    ck_assert(driver_wait_irq(&blk.irq, TIMEOUT_MS));
    ck_assert(driver_ack(blk.mmio) & VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(capacity(), DISK_SECTORS / 2);
}
END_TEST

static void add_tests(Suite *suite)
{
    blk_case(suite, "resize", the_driver_is_told_of_the_new_capacity, an_equal_length_is_no_news,
             requests_reach_what_was_added, a_driver_that_is_about_to_start_is_told,
             after_a_reset_nobody_is_told);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_blk_resize", add_tests)
