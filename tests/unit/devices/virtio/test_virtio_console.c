/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_console.h"

#include <linux/virtio_console.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/devices/virtio/virtio_rig.h"

enum { RECEIVE_QUEUE, TRANSMIT_QUEUE };

#define OUTPUT_MAX (1 * MIB)
#define FULL_LEN (64 * KIB)

/* The host's end, made of arrays; the test's thread is the main one. */
static struct {
    struct chardev chardev;
    struct chardev_front *front;
    pthread_mutex_t lock; /* guards the next three */
    uint8_t output[OUTPUT_MAX];
    size_t noutput;
    bool fills; /* it is full with FULL_LEN bytes */
    atomic_uint accepts;
    atomic_uint size;
} host;

static void host_write(struct chardev *chardev, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&host.lock);
    ck_assert_uint_le(host.noutput + len, OUTPUT_MAX);
    memcpy(host.output + host.noutput, data, len);
    host.noutput += len;
    pthread_mutex_unlock(&host.lock);
}

static bool host_is_full(struct chardev *chardev)
{
    bool full;

    pthread_mutex_lock(&host.lock);
    full = host.fills && host.noutput >= FULL_LEN;
    pthread_mutex_unlock(&host.lock);
    return full;
}

static void host_accept_input(struct chardev *chardev)
{
    atomic_fetch_add(&host.accepts, 1);
}

static void host_set_front(struct chardev *chardev, struct chardev_front *front)
{
    host.front = front;
}

static struct chardev_size host_get_size(struct chardev *chardev)
{
    unsigned size = atomic_load(&host.size);

    return (struct chardev_size){.columns = (uint16_t)(size >> 16), .rows = (uint16_t)size};
}

static const struct chardev_ops host_ops = {
    .write = host_write,
    .is_full = host_is_full,
    .accept_input = host_accept_input,
    .set_front = host_set_front,
    .get_size = host_get_size,
};

static void set_up(void)
{
    struct virtio_console_options options;
    struct virtio_dev *dev;

    memset(&host, 0, sizeof(host));
    pthread_mutex_init(&host.lock, NULL);
    host.chardev.ops = &host_ops;
    rig_set_up();
    options = (struct virtio_console_options){.loop = rig.loop, .chardev = &host.chardev};
    ck_assert_int_eq(virtio_console_new(&options, rig.mem, &dev), 0);
    rig_add(dev);
}

static void tear_down(void)
{
    rig_tear_down();
    ck_assert_ptr_null(host.front);
    pthread_mutex_destroy(&host.lock);
}

static size_t room(void)
{
    return host.front->can_receive(host.front);
}

/* As a back end does: no more than there is room for. */
static void type(const char *text)
{
    ck_assert_uint_ge(room(), strlen(text));
    host.front->receive(host.front, (const uint8_t *)text, strlen(text));
}

static void resize(unsigned columns, unsigned rows)
{
    atomic_store(&host.size, columns << 16 | rows);
    host.front->resized(host.front);
}

/* How much was printed, and what the byte at `at` is, if it is there. */
static size_t output_len(size_t at, uint8_t *ret_byte)
{
    size_t len;

    rig_settle();
    pthread_mutex_lock(&host.lock);
    len = host.noutput;
    if (at < len)
        *ret_byte = host.output[at];
    pthread_mutex_unlock(&host.lock);
    return len;
}

static void set_fills(void)
{
    pthread_mutex_lock(&host.lock);
    host.fills = true;
    pthread_mutex_unlock(&host.lock);
}

/* What was printed so far, and forget it. */
static void expect_output(const char *text)
{
    rig_settle();
    pthread_mutex_lock(&host.lock);
    ck_assert_uint_eq(host.noutput, strlen(text));
    ck_assert_mem_eq(host.output, text, strlen(text));
    host.noutput = 0;
    pthread_mutex_unlock(&host.lock);
}

/* The guest prints, at the n-th place of its own. */
static void print_at(unsigned n, const char *text)
{
    uint64_t gpa = RIG_DATA_GPA + 4096ull * n;

    memcpy(rig_guest(gpa, strlen(text)), text, strlen(text));
    (void)rig_add_buffer(TRANSMIT_QUEUE, gpa, (uint32_t)strlen(text), false);
}

/* The guest offers a buffer for input. */
static void offer(unsigned n, uint32_t len)
{
    (void)rig_add_buffer(RECEIVE_QUEUE, RIG_DATA_GPA + 4096ull * n, len, true);
    rig_kick(RECEIVE_QUEUE);
}

static void expect_input(unsigned n, const char *text)
{
    ck_assert_uint_eq(rig_wait_used(RECEIVE_QUEUE).len, strlen(text));
    ck_assert_mem_eq(rig_guest(RIG_DATA_GPA + 4096ull * n, strlen(text)), text, strlen(text));
}

/* ---- output ---------------------------------------------------------------------------------- */

START_TEST(the_device_is_one_port_with_a_size)
{
    ck_assert_uint_eq(driver_read32(rig.mmio, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_CONSOLE);
    ck_assert_uint_eq(driver_features(rig.mmio),
                      VIRTIO_FEATURES_COMMON | VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE));
}
END_TEST

START_TEST(what_the_guest_prints_comes_out_in_order)
{
    rig_bring_up();
    print_at(0, "one ");
    print_at(1, "two ");
    print_at(2, "three");
    rig_kick(TRANSMIT_QUEUE);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(rig_wait_used(TRANSMIT_QUEUE).len, 0);
    expect_output("one two three");
}
END_TEST

START_TEST(all_buffers_of_a_chain_are_printed_and_writable_ones_are_not)
{
    const struct driver_buf bufs[] = {
        {RIG_DATA_GPA, 3, false}, {RIG_DATA_GPA + 64, 4, false}, {RIG_DATA_GPA + 128, 5, true}};

    rig_bring_up();
    memcpy(rig_guest(RIG_DATA_GPA, 3), "abc", 3);
    memcpy(rig_guest(RIG_DATA_GPA + 64, 4), "defg", 4);
    memcpy(rig_guest(RIG_DATA_GPA + 128, 5), "XXXXX", 5);
    (void)driver_add(&rig.rings[TRANSMIT_QUEUE], bufs, ARRAY_SIZE(bufs));
    rig_kick(TRANSMIT_QUEUE);
    ck_assert_uint_eq(rig_wait_used(TRANSMIT_QUEUE).len, 0);
    expect_output("abcdefg");
    ck_assert_mem_eq(rig_guest(RIG_DATA_GPA + 128, 5), "XXXXX", 5);
}
END_TEST

static void forget_output(void)
{
    pthread_mutex_lock(&host.lock);
    host.noutput = 0;
    pthread_mutex_unlock(&host.lock);
    host.front->writable(host.front);
}

START_TEST(a_slow_reader_holds_the_guest_up_and_nothing_is_lost)
{
    uint8_t byte = 0;

    rig_bring_up();
    set_fills();
    for (unsigned i = 0; i < 16; i++) {
        memset(rig_guest(RIG_DATA_GPA + 8192ull * i, 8192), 'a' + (int)i, 8192);
        (void)rig_add_buffer(TRANSMIT_QUEUE, RIG_DATA_GPA + 8192ull * i, 8192, false);
    }
    rig_kick(TRANSMIT_QUEUE);
    for (unsigned i = 0; i < 8; i++)
        (void)rig_wait_used(TRANSMIT_QUEUE);
    ck_assert(rig_nothing_used(TRANSMIT_QUEUE));
    ck_assert_uint_eq(output_len(FULL_LEN - 1, &byte), FULL_LEN);
    ck_assert_uint_eq(byte, 'h');
    forget_output();
    for (unsigned i = 0; i < 8; i++)
        (void)rig_wait_used(TRANSMIT_QUEUE);
    ck_assert_uint_eq(output_len(0, &byte), FULL_LEN);
    ck_assert_uint_eq(byte, 'i');
}
END_TEST

/* A vCPU that resets the device must not wait for the reader. */
START_TEST(a_reset_does_not_wait_for_the_reader)
{
    rig_bring_up();
    set_fills();
    for (unsigned i = 0; i < 2; i++)
        (void)rig_add_buffer(TRANSMIT_QUEUE, RIG_DATA_GPA, FULL_LEN, false);
    rig_kick(TRANSMIT_QUEUE);
    (void)rig_wait_used(TRANSMIT_QUEUE);
    ck_assert(rig_nothing_used(TRANSMIT_QUEUE));
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    forget_output();
    expect_output("");
    rig_bring_up();
    print_at(0, "again");
    rig_kick(TRANSMIT_QUEUE);
    expect_output("again");
}
END_TEST

/* ---- input ----------------------------------------------------------------------------------- */

START_TEST(nothing_is_taken_before_the_guest_listens)
{
    ck_assert_uint_eq(room(), 0);
    rig_bring_up();
    ck_assert_uint_gt(room(), 0);
    ck_assert_uint_gt(atomic_load(&host.accepts), 0); /* the host was told */
    driver_write32(rig.mmio, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(room(), 0);
}
END_TEST

START_TEST(keys_reach_buffers_that_wait_for_them)
{
    rig_bring_up();
    offer(0, 64);
    offer(1, 64);
    ck_assert(rig_nothing_used(RECEIVE_QUEUE));
    type("ls\n");
    expect_input(0, "ls\n");
    type("pwd\n");
    expect_input(1, "pwd\n");
}
END_TEST

START_TEST(keys_wait_for_buffers)
{
    rig_bring_up();
    type("typed ");
    type("ahead");
    ck_assert(rig_nothing_used(RECEIVE_QUEUE));
    offer(0, 8);
    expect_input(0, "typed ah");
    offer(1, 8);
    expect_input(1, "ead");
    ck_assert(rig_nothing_used(RECEIVE_QUEUE));
}
END_TEST

START_TEST(a_guest_without_buffers_fills_no_memory)
{
    char paste[128];
    size_t n = 0, before;

    memset(paste, 'x', sizeof(paste) - 1);
    paste[sizeof(paste) - 1] = '\0';
    rig_bring_up();
    while (room() >= sizeof(paste)) {
        type(paste);
        n += sizeof(paste) - 1;
        ck_assert_uint_lt(n, 64 * KIB);
    }
    before = room();
    offer(0, 4096);
    ck_assert_uint_eq(rig_wait_used(RECEIVE_QUEUE).len, n);
    rig_settle();
    ck_assert_uint_gt(room(), before);
    ck_assert_uint_gt(atomic_load(&host.accepts), 1); /* the rest may come */
}
END_TEST

START_TEST(buffers_that_the_device_may_not_write_take_no_input)
{
    rig_bring_up();
    type("key");
    memcpy(rig_guest(RIG_DATA_GPA, 4), "____", 4);
    (void)rig_add_buffer(RECEIVE_QUEUE, RIG_DATA_GPA, 4, false);
    rig_kick(RECEIVE_QUEUE);
    ck_assert_uint_eq(rig_wait_used(RECEIVE_QUEUE).len, 0);
    ck_assert_mem_eq(rig_guest(RIG_DATA_GPA, 4), "____", 4);
    offer(1, 16);
    expect_input(1, "key");
}
END_TEST

START_TEST(keys_survive_a_reset)
{
    rig_bring_up();
    type("early");
    rig_bring_up();
    offer(0, 16);
    expect_input(0, "early");
}
END_TEST

/* ---- size, pauses, bad rings ----------------------------------------------------------------- */

static unsigned columns(void)
{
    return driver_read32(rig.mmio, VIRTIO_MMIO_CONFIG) & 0xffff;
}

static unsigned rows(void)
{
    return driver_read32(rig.mmio, VIRTIO_MMIO_CONFIG) >> 16;
}

START_TEST(the_guest_is_told_of_another_size)
{
    resize(80, 24); /* before there is a driver */
    ck_assert(!driver_wait_irq(&rig.irq, 0));
    rig_bring_up();
    ck_assert_uint_eq(columns(), 80);
    ck_assert_uint_eq(rows(), 24);
    ck_assert(driver_wait_irq(&rig.irq, RIG_TIMEOUT_MS)); /* Linux waits for it */
    ck_assert_uint_ne(driver_ack(rig.mmio) & VIRTIO_MMIO_INT_CONFIG, 0);
    resize(132, 43);
    ck_assert(driver_wait_irq(&rig.irq, RIG_TIMEOUT_MS));
    ck_assert_uint_ne(driver_ack(rig.mmio) & VIRTIO_MMIO_INT_CONFIG, 0);
    ck_assert_uint_eq(columns(), 132);
    ck_assert_uint_eq(rows(), 43);
    driver_write32(rig.mmio, VIRTIO_MMIO_CONFIG, 0); /* nothing there can be written */
    ck_assert_uint_eq(columns(), 132);
}
END_TEST

START_TEST(a_paused_device_moves_nothing)
{
    rig_bring_up();
    offer(0, 64);
    rig_settle();
    rig_pause();
    type("key");
    print_at(1, "text");
    rig_kick(TRANSMIT_QUEUE);
    ck_assert(rig_nothing_used(RECEIVE_QUEUE));
    ck_assert(rig_nothing_used(TRANSMIT_QUEUE));
    expect_output("");
    rig_resume();
    expect_input(0, "key");
    (void)rig_wait_used(TRANSMIT_QUEUE);
    expect_output("text");
}
END_TEST

START_TEST(one_bad_ring_stops_both_until_a_reset)
{
    rig_bring_up();
    driver_offer(&rig.rings[RECEIVE_QUEUE], 17); /* no such descriptor */
    type("key");
    rig_kick(RECEIVE_QUEUE);
    ck_assert(rig_needs_reset());
    print_at(0, "text");
    rig_kick(TRANSMIT_QUEUE);
    ck_assert(rig_nothing_used(TRANSMIT_QUEUE));
    expect_output("");
    rig_bring_up();
    print_at(0, "text");
    rig_kick(TRANSMIT_QUEUE);
    expect_output("text");
}
END_TEST

/* ---- both directions at once ----------------------------------------------------------------- */

#define TURNS 2000

START_TEST(many_keys_come_back_as_an_echo)
{
    char text[16];

    rig_bring_up();
    for (unsigned i = 0; i < TURNS; i++) {
        unsigned place = i % 8;

        (void)snprintf(text, sizeof(text), "key %u\n", i);
        if (i % 2)
            type(text);
        offer(place, 16);
        if (i % 2 == 0)
            type(text);
        expect_input(place, text);
        print_at(place, text);
        rig_kick(TRANSMIT_QUEUE);
        (void)rig_wait_used(TRANSMIT_QUEUE);
        expect_output(text);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "output", set_up, tear_down, the_device_is_one_port_with_a_size,
                   what_the_guest_prints_comes_out_in_order,
                   all_buffers_of_a_chain_are_printed_and_writable_ones_are_not,
                   a_slow_reader_holds_the_guest_up_and_nothing_is_lost,
                   a_reset_does_not_wait_for_the_reader);
    unit_case_with(suite, "input", set_up, tear_down, nothing_is_taken_before_the_guest_listens,
                   keys_reach_buffers_that_wait_for_them, keys_wait_for_buffers,
                   a_guest_without_buffers_fills_no_memory,
                   buffers_that_the_device_may_not_write_take_no_input, keys_survive_a_reset);
    unit_case_with(suite, "state", set_up, tear_down, the_guest_is_told_of_another_size,
                   a_paused_device_moves_nothing, one_bad_ring_stops_both_until_a_reset,
                   many_keys_come_back_as_an_echo);
}

UNIT_USES_THREADS;
UNIT_MAIN("virtio_console", add_tests)
