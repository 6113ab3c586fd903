/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon of a VM over several guests, with a main loop that the test runs.
 */
#include <linux/virtio_balloon.h>
#include <linux/virtio_mmio.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "devices/virtio/virtio_mmio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"
#include "vmm/attached/balloon.h"

#define MEM_LEN (32 * MIB)
#define CONFIG(field) (VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, field))

static struct config config;
static struct loop *loop;
static struct attachments attachments;
static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;
static unsigned nchanges;
static uint64_t told; /* by the last change: the guest's memory */

static void begin_guest(void)
{
    struct attached *attached = attachments.list[0];
    struct virtio_dev *dev;

    ck_assert_int_eq(attached->ops->make_device(attached, mem, &dev, NULL), 0);
    ck_assert_int_eq(virtio_mmio_new(dev, &irq, &mmio), 0);
}

static void end_guest(void)
{
    virtio_mmio_free(mmio);
    mmio = NULL;
}

static void on_changed(void *opaque)
{
    nchanges++;
    told = balloon_get_memory(attachments.balloon);
}

static void set_up(void)
{
    config_init(&config);
    config.memory = MEM_LEN;
    config.balloon = true;
    nchanges = 0;
    ck_assert_int_eq(loop_new(&loop), 0);
    mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
    attachments_init(&attachments, &config, NULL, loop);
    ck_assert_int_eq(balloon_attach(&attachments, NULL), 0);
    balloon_watch(attachments.balloon, on_changed, NULL);
    begin_guest();
}

static void tear_down(void)
{
    virtio_mmio_free(mmio);
    attachments_close(&attachments);
    irq_done(&irq);
    guest_mem_free(mem);
    loop_free(loop);
    config_done(&config);
}

static void on_time_up(struct loop_timer *timer)
{
    loop_stop(loop);
}

/* With what happens meanwhile. */
static void run_for(uint64_t ms)
{
    struct loop_timer timer = {.expired = on_time_up};

    loop_arm(loop, &timer, ms * NS_PER_MS);
    ck_assert_int_eq(loop_run(loop), 0);
}

static void wait_for_changes(unsigned n)
{
    for (unsigned i = 0; nchanges < n && i < 1000; i++)
        run_for(10);
    ck_assert_uint_eq(nchanges, n);
}

static void inflate(uint32_t npages)
{
    driver_write32(mmio, CONFIG(actual), npages);
}

START_TEST(target_holds_for_the_next_guest_and_size_does_not)
{
    struct balloon *balloon = attachments.balloon;

    ck_assert_uint_eq(driver_read32(mmio, CONFIG(num_pages)), 0);
    balloon_set_memory(balloon, MEM_LEN - 8 * MIB);
    ck_assert_uint_eq(driver_read32(mmio, CONFIG(num_pages)), 8 * MIB / 4096);
    inflate(1024);
    ck_assert_uint_eq(balloon_get_memory(balloon), MEM_LEN - 4 * MIB);

    end_guest();
    ck_assert_uint_eq(balloon_get_memory(balloon), MEM_LEN);
    balloon_set_memory(balloon, MEM_LEN - 2 * MIB);
    begin_guest();
    ck_assert_uint_eq(driver_read32(mmio, CONFIG(num_pages)), 2 * MIB / 4096);
    ck_assert_uint_eq(balloon_get_memory(balloon), MEM_LEN);
    balloon_set_memory(balloon, UINT64_MAX);
    ck_assert_uint_eq(driver_read32(mmio, CONFIG(num_pages)), 0);
    inflate(UINT32_MAX);
    ck_assert_uint_eq(balloon_get_memory(balloon), 0);
}
END_TEST

/* However slow the machine is. */
START_TEST(changes_are_told_once_in_a_second_and_the_last_one_always)
{
    const uint64_t begin_ns = monotonic_ns();
    unsigned before;

    inflate(1);
    wait_for_changes(1);
    for (uint32_t i = 2; i < 20; i++) {
        inflate(i);
        run_for(10);
        ck_assert_uint_le(nchanges, 1 + (monotonic_ns() - begin_ns) / NS_PER_S);
    }
    for (unsigned i = 0; told != MEM_LEN - 19ull * 4096 && i < 1000; i++)
        run_for(10);
    ck_assert_uint_eq(told, MEM_LEN - 19ull * 4096);
    before = nchanges;
    run_for(1200);
    ck_assert_uint_eq(nchanges, before);
    inflate(5);
    wait_for_changes(before + 1);
}
END_TEST

START_TEST(statistics_need_a_guest_that_tells_some)
{
    struct virtio_balloon_stats stats;

    ck_assert(!balloon_get_stats(attachments.balloon, &stats));
    end_guest();
    ck_assert(!balloon_get_stats(attachments.balloon, &stats));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "balloon", set_up, tear_down,
                   target_holds_for_the_next_guest_and_size_does_not,
                   changes_are_told_once_in_a_second_and_the_last_one_always,
                   statistics_need_a_guest_that_tells_some);
}

UNIT_USES_THREADS;
UNIT_MAIN("balloon", add_tests)
