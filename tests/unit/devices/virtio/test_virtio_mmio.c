/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_mmio.h"

/* The interrupt line, watched; the library's is left out. */
void real_irq_raise(struct irq *irq);
#define irq_raise real_irq_raise
#include "devices/irq.c" // NOLINT(bugprone-suspicious-include)
#undef irq_raise

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/bytes.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"

#define MEM_LEN (1 * MIB)
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0

#define ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED VIRTIO_CONFIG_S_FAILED

#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define RING_RESET VIRTIO_FEATURE(VIRTIO_F_RING_RESET)

/* What the driver does at the very moment of an edge, before anything after it. NULL: nothing. */
static void (*at_edge)(void);

void irq_raise(struct irq *line)
{
    if (at_edge)
        at_edge();
    real_irq_raise(line);
}

/* ---- a device that records what it is asked -------------------------------------------------- */

#define NQUEUES 2u
#define FEATURE_A VIRTIO_FEATURE(3)
#define FEATURE_B VIRTIO_FEATURE(40 - 1)

static struct recorder {
    struct virtio_dev dev;
    uint8_t config[12];
    void (*at_config_read)(void); /* NULL: nothing */
    int start_result;
    bool running[NQUEUES];
    unsigned nstarts;
    unsigned nstops;
    unsigned nfeatures_ok;
    bool freed;
} rec;

static uint64_t rec_features(struct virtio_dev *dev)
{
    return FEATURE_A | FEATURE_B;
}

static void rec_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    if (rec.at_config_read)
        rec.at_config_read();
    virtio_config_copy(rec.config, sizeof(rec.config), off, buf, len);
}

static void rec_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
    if (range_fits(off, len, sizeof(rec.config)))
        memcpy(rec.config + off, buf, len);
}

static void rec_features_ok(struct virtio_dev *dev)
{
    rec.nfeatures_ok++;
}

static int rec_queue_start(struct virtio_dev *dev, unsigned queue)
{
    if (rec.start_result < 0)
        return rec.start_result;
    ck_assert(!rec.running[queue]);
    rec.running[queue] = true;
    rec.nstarts++;
    return 0;
}

static void rec_queue_stop(struct virtio_dev *dev, unsigned queue)
{
    ck_assert(rec.running[queue]);
    rec.running[queue] = false;
    rec.nstops++;
}

static void rec_free(struct virtio_dev *dev)
{
    virtio_dev_done(dev);
    rec.freed = true;
}

static const struct virtio_ops rec_ops = {
    .name = "recorder",
    .device_id = 42,
    .features = rec_features,
    .config_read = rec_config_read,
    .config_write = rec_config_write,
    .features_ok = rec_features_ok,
    .queue_start = rec_queue_start,
    .queue_stop = rec_queue_stop,
    .free = rec_free,
};

static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;
static struct driver_ring ring;

static void set_up(void)
{
    rec = (struct recorder){0};
    mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
    ck_assert_int_eq(virtio_dev_init(&rec.dev, &rec_ops, mem, NQUEUES), 0);
    ck_assert_int_eq(virtio_mmio_new(&rec.dev, &irq, &mmio), 0);
    driver_ring_init(&ring, mem, 0x1000, 8, false);
}

static void tear_down(void)
{
    virtio_mmio_free(mmio);
    ck_assert(rec.freed);
    ck_assert(!rec.running[0] && !rec.running[1]);
    irq_done(&irq);
    guest_mem_free(mem);
}

static uint32_t read32(uint32_t off)
{
    return driver_read32(mmio, off);
}

static void write32(uint32_t off, uint32_t value)
{
    driver_write32(mmio, off, value);
}

static uint32_t status(void)
{
    return read32(VIRTIO_MMIO_STATUS);
}

/* What a guest reads that has the registers in its memory. */
static uint32_t shown32(uint32_t off)
{
    return load_le32((const uint8_t *)virtio_mmio_page(mmio) + off);
}

static uint32_t queue_ready(unsigned index)
{
    write32(VIRTIO_MMIO_QUEUE_SEL, index);
    return read32(VIRTIO_MMIO_QUEUE_READY);
}

/* Up to DRIVER_OK with queue 0. */
static void bring_up(uint64_t features)
{
    ck_assert(driver_negotiate(mmio, features));
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    driver_set_driver_ok(mmio);
    ck_assert_uint_eq(status(), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
}

/* ---- identity and features ------------------------------------------------------------------- */

START_TEST(device_introduces_itself)
{
    ck_assert_uint_eq(read32(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_VERSION), 2);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_DEVICE_ID), 42);
    ck_assert_uint_eq(status(), 0);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_SHM_BASE_HIGH), UINT32_MAX);
}
END_TEST

START_TEST(features_come_in_pages_of_32)
{
    ck_assert_uint_eq(driver_features(mmio), FEATURE_A | FEATURE_B | VIRTIO_FEATURES_COMMON);
    write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0xffffffff);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_DEVICE_FEATURES), 0);
}
END_TEST

START_TEST(features_are_agreed_on_or_refused)
{
    static const struct {
        uint64_t features;
        bool agreed;
    } cases[] = {
        {VERSION_1, true},
        {VERSION_1 | FEATURE_A | FEATURE_B, true},
        {VIRTIO_FEATURES_COMMON, true},
        {0, false},                              /* a legacy driver */
        {FEATURE_A, false},                      /* another one */
        {VERSION_1 | VIRTIO_FEATURE(0), false},  /* not offered */
        {VERSION_1 | VIRTIO_FEATURE(63), false}, /* not offered */
        {VERSION_1 | VIRTIO_FEATURE(34), false}, /* packed rings */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        rec.nfeatures_ok = 0;
        ck_assert_msg(driver_negotiate(mmio, cases[i].features) == cases[i].agreed, "case %zu", i);
        ck_assert_uint_eq(rec.nfeatures_ok, cases[i].agreed);
        ck_assert_uint_eq(rec.dev.features, cases[i].agreed ? cases[i].features : 0);
    }
}
END_TEST

START_TEST(feature_bits_above_63_are_refused)
{
    write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
    write32(VIRTIO_MMIO_DRIVER_FEATURES, 1);
    write32(VIRTIO_MMIO_STATUS, ACK | DRIVER);
    write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    write32(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(VERSION_1 >> 32));
    write32(VIRTIO_MMIO_STATUS, ACK | DRIVER | FEATURES_OK);
    ck_assert_uint_eq(status(), ACK | DRIVER);
    ck_assert(driver_negotiate(mmio, VERSION_1)); /* the reset forgot them */
}
END_TEST

START_TEST(features_are_frozen_once_agreed_on)
{
    ck_assert(driver_negotiate(mmio, VERSION_1));
    write32(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    write32(VIRTIO_MMIO_DRIVER_FEATURES, FEATURE_A);
    ck_assert_uint_eq(rec.dev.features, VERSION_1);
    write32(VIRTIO_MMIO_STATUS, ACK | DRIVER | FEATURES_OK); /* once is enough */
    ck_assert_uint_eq(rec.nfeatures_ok, 1);
}
END_TEST

/* ---- status ---------------------------------------------------------------------------------- */

START_TEST(status_goes_forward_step_by_step)
{
    static const struct {
        uint32_t writes[4];
        uint32_t result;
    } cases[] = {
        {{ACK}, ACK},
        {{ACK, ACK | DRIVER}, ACK | DRIVER},
        {{ACK | DRIVER}, ACK | DRIVER},
        {{DRIVER}, 0},                   /* before ACKNOWLEDGE */
        {{ACK, ACK | FEATURES_OK}, ACK}, /* before DRIVER */
        {{ACK | DRIVER, ACK | DRIVER | DRIVER_OK}, ACK | DRIVER},
        {{ACK | DRIVER, ACK}, ACK | DRIVER}, /* bits stay */
        {{ACK, 0x30}, ACK},                  /* no such bits */
        {{ACK, ACK | NEEDS_RESET}, ACK},     /* not the driver's */
        {{ACK, ACK | FAILED}, ACK | FAILED},
        {{ACK, ACK | FAILED, ACK | DRIVER}, ACK | FAILED},        /* the end */
        {{ACK | DRIVER | FEATURES_OK | DRIVER_OK}, ACK | DRIVER}, /* features missing */
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        write32(VIRTIO_MMIO_STATUS, 0);
        for (unsigned j = 0; j < 4 && cases[i].writes[j]; j++)
            write32(VIRTIO_MMIO_STATUS, cases[i].writes[j]);
        ck_assert_msg(status() == cases[i].result, "case %zu: %#x", i, status());
    }
}
END_TEST

START_TEST(driver_ok_starts_the_queues_that_are_ready)
{
    bring_up(VERSION_1);
    ck_assert(rec.running[0]);
    ck_assert(!rec.running[1]);
    write32(VIRTIO_MMIO_STATUS, status()); /* nothing new */
    ck_assert_uint_eq(rec.nstarts, 1);
}
END_TEST

START_TEST(reset_returns_to_the_beginning)
{
    bring_up(VERSION_1);
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    write32(VIRTIO_MMIO_STATUS, 0);
    ck_assert(!rec.running[0]);
    ck_assert_uint_eq(status(), 0);
    ck_assert_uint_eq(queue_ready(0), 0);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    bring_up(VERSION_1);
    ck_assert(rec.running[0]);
}
END_TEST

START_TEST(failing_start_asks_for_a_reset)
{
    rec.start_result = -ENOMEM;
    ck_assert(driver_negotiate(mmio, VERSION_1));
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    driver_set_driver_ok(mmio);
    ck_assert(status() & NEEDS_RESET);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
}
END_TEST

/* ---- queues ---------------------------------------------------------------------------------- */

START_TEST(queues_that_do_not_exist_read_as_zero)
{
    ck_assert(driver_negotiate(mmio, VERSION_1));
    write32(VIRTIO_MMIO_QUEUE_SEL, NQUEUES - 1);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_NUM_MAX), 1024);
    write32(VIRTIO_MMIO_QUEUE_SEL, NQUEUES);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    ck_assert(!driver_setup_queue(mmio, NQUEUES, &ring));
    ck_assert(!driver_setup_queue(mmio, UINT32_MAX, &ring));
    write32(VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert_uint_eq(status(), ACK | DRIVER | FEATURES_OK);
}
END_TEST

START_TEST(queues_are_set_up_after_features_ok_only)
{
    write32(VIRTIO_MMIO_STATUS, ACK | DRIVER);
    ck_assert(!driver_setup_queue(mmio, 0, &ring));
    ck_assert(driver_negotiate(mmio, VERSION_1));
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    write32(VIRTIO_MMIO_STATUS, status() | FAILED);
    ck_assert(!driver_setup_queue(mmio, 1, &ring));
}
END_TEST

START_TEST(queue_registers_are_locked_while_ready)
{
    ck_assert(driver_negotiate(mmio, VERSION_1));
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    write32(VIRTIO_MMIO_QUEUE_NUM, 4);
    write32(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x5000);
    write32(VIRTIO_MMIO_QUEUE_USED_HIGH, 1);
    ck_assert_uint_eq(rec.dev.queues[0].size, 8);
    ck_assert_uint_eq(rec.dev.queues[0].desc_gpa, ring.desc_gpa);
    ck_assert_uint_eq(rec.dev.queues[0].used_gpa, ring.used_gpa);
}
END_TEST

START_TEST(no_queue_is_added_after_driver_ok)
{
    bring_up(VERSION_1);
    ck_assert(!driver_setup_queue(mmio, 1, &ring));
    ck_assert(!rec.running[1]);
}
END_TEST

START_TEST(queue_that_makes_no_sense_asks_for_a_reset)
{
    static const struct {
        uint32_t size;
        uint32_t desc_high;
    } cases[] = {{0, 0}, {7, 0}, {2048, 0}, {65544, 0}, {0xffffffff, 0}, {8, 1}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert(driver_negotiate(mmio, VERSION_1));
        write32(VIRTIO_MMIO_QUEUE_SEL, 0);
        write32(VIRTIO_MMIO_QUEUE_NUM, cases[i].size);
        write32(VIRTIO_MMIO_QUEUE_DESC_HIGH, cases[i].desc_high);
        write32(VIRTIO_MMIO_QUEUE_READY, 1);
        ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_READY), 0);
        ck_assert(status() & NEEDS_RESET);
        /* It does not run until it is reset, and there is nobody yet to be told by interrupt. */
        ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        ck_assert(driver_setup_queue(mmio, 1, &ring));
        driver_set_driver_ok(mmio);
        ck_assert(!rec.running[1]);
    }
    bring_up(VERSION_1);
    ck_assert(rec.running[0]);
}
END_TEST

START_TEST(queue_ready_zero_stops_the_queue)
{
    bring_up(VERSION_1);
    write32(VIRTIO_MMIO_QUEUE_SEL, 0);
    write32(VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert(!rec.running[0]);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_READY), 0);
    ck_assert(!driver_setup_queue(mmio, 0, &ring)); /* no way back without RING_RESET */
    write32(VIRTIO_MMIO_QUEUE_RESET, 1);
    ck_assert(!driver_setup_queue(mmio, 0, &ring));
}
END_TEST

START_TEST(single_queue_can_be_reset_and_used_again)
{
    struct driver_ring other;

    bring_up(VERSION_1 | RING_RESET);
    driver_ring_init(&other, mem, 0x8000, 16, false);
    write32(VIRTIO_MMIO_QUEUE_RESET, 1);
    ck_assert(!rec.running[0]);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_RESET), 0);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_READY), 0);
    ck_assert(driver_setup_queue(mmio, 0, &other));
    ck_assert(rec.running[0]);
    ck_assert_uint_eq(rec.dev.queues[0].size, 16);
    ck_assert_uint_eq(rec.nstarts, 2);
}
END_TEST

START_TEST(queue_reset_without_the_feature_does_nothing)
{
    bring_up(VERSION_1);
    write32(VIRTIO_MMIO_QUEUE_RESET, 1);
    ck_assert(rec.running[0]);
}
END_TEST

START_TEST(odd_values_of_queue_ready_do_nothing)
{
    bring_up(VERSION_1);
    write32(VIRTIO_MMIO_QUEUE_READY, 2);
    write32(VIRTIO_MMIO_QUEUE_READY, 0xffffffff);
    ck_assert(rec.running[0]);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_QUEUE_READY), 1);
}
END_TEST

START_TEST(notify_kicks_the_queue)
{
    eventfd_t count;

    driver_kick(mmio, 1);
    ck_assert_int_eq(eventfd_read(rec.dev.kick_fds[1], &count), 0);
    ck_assert_int_lt(eventfd_read(rec.dev.kick_fds[0], &count), 0);
    driver_kick(mmio, NQUEUES); /* nothing, and no harm */
    driver_kick(mmio, UINT32_MAX);
    ck_assert_int_lt(eventfd_read(rec.dev.kick_fds[0], &count), 0);
    ck_assert_int_lt(eventfd_read(rec.dev.kick_fds[1], &count), 0);
}
END_TEST

/* ---- interrupts ------------------------------------------------------------------------------ */

START_TEST(interrupt_status_is_set_before_the_edge_and_cleared_by_ack)
{
    bring_up(VERSION_1);
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert(driver_wait_irq(&irq, 0));
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS),
                      VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
    write32(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    ck_assert(driver_wait_irq(&irq, 0));
    write32(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert(!driver_wait_irq(&irq, 0));
}
END_TEST

START_TEST(nobody_is_interrupted_before_driver_ok)
{
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert(!driver_wait_irq(&irq, 0));
    ck_assert(driver_negotiate(mmio, VERSION_1));
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert(!driver_wait_irq(&irq, 0));
    ck_assert_uint_eq(read32(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    driver_set_driver_ok(mmio);
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert(driver_wait_irq(&irq, 0));
}
END_TEST

/* A handler that runs at once: what it does not find then, no edge is going to tell it of. */
static uint32_t reason_at_edge;
static uint32_t status_at_edge;

static void handle_edge(void)
{
    reason_at_edge = driver_ack(mmio);
    status_at_edge = status();
}

START_TEST(handler_that_runs_at_once_finds_the_reason)
{
    bring_up(VERSION_1);
    at_edge = handle_edge;
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert_uint_eq(reason_at_edge, VIRTIO_MMIO_INT_VRING);
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert_uint_eq(reason_at_edge, VIRTIO_MMIO_INT_CONFIG);
    rec.dev.transport->needs_reset(rec.dev.transport);
    ck_assert_uint_eq(reason_at_edge, VIRTIO_MMIO_INT_CONFIG);
    ck_assert(status_at_edge & NEEDS_RESET);
    at_edge = NULL;
}
END_TEST

START_TEST(every_event_makes_an_edge)
{
    bring_up(VERSION_1);
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert(driver_wait_irq(&irq, 0));
    /* The driver has not acknowledged the first; it may be past its look at the ring. */
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert(driver_wait_irq(&irq, 0));
}
END_TEST

START_TEST(needs_reset_tells_the_driver_once)
{
    bring_up(VERSION_1);
    rec.dev.transport->needs_reset(rec.dev.transport);
    ck_assert_uint_eq(status(), ACK | DRIVER | FEATURES_OK | DRIVER_OK | NEEDS_RESET);
    ck_assert(driver_wait_irq(&irq, 0));
    ck_assert_uint_eq(driver_ack(mmio), VIRTIO_MMIO_INT_CONFIG);
    rec.dev.transport->needs_reset(rec.dev.transport);
    ck_assert(!driver_wait_irq(&irq, 0));
    write32(VIRTIO_MMIO_STATUS, status()); /* a driver that repeats what it read */
    ck_assert(status() & NEEDS_RESET);
    write32(VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(status(), 0);
}
END_TEST

/* ---- configuration and odd accesses ---------------------------------------------------------- */

START_TEST(config_is_accessed_in_all_widths)
{
    const struct bus_ops *ops = &virtio_mmio_bus_ops;

    for (size_t i = 0; i < sizeof(rec.config); i++)
        rec.config[i] = (uint8_t)(i + 1);
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG, 1), 0x01);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG + 1, 2), 0x0302);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG + 4, 4), 0x08070605);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG, 8), 0x0807060504030201);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG + 8, 8), 0x0c0b0a09); /* zeroes follow */
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_LEN - 8, 8), 0);

    ops->write(mmio, VIRTIO_MMIO_CONFIG + 2, 2, 0xaabb);
    ops->write(mmio, VIRTIO_MMIO_CONFIG + 5, 1, 0xcc);
    ops->write(mmio, VIRTIO_MMIO_CONFIG + 8, 8, 0); /* partly outside */
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG, 8), 0x0807cc05aabb0201);
    ck_assert_uint_eq(ops->read(mmio, VIRTIO_MMIO_CONFIG + 8, 4), 0x0c0b0a09);
}
END_TEST

START_TEST(page_follows_what_is_written)
{
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_QUEUE_NUM_MAX), 1024);
    write32(VIRTIO_MMIO_QUEUE_SEL, NQUEUES);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    write32(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_DEVICE_FEATURES),
                      (FEATURE_A | FEATURE_B | VIRTIO_FEATURES_COMMON) >> 32);
    bring_up(VERSION_1);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_QUEUE_READY), 1);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_STATUS), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
    write32(VIRTIO_MMIO_CONFIG, 0x11223344);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_CONFIG), 0x11223344);
    write32(VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_QUEUE_READY), 0);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_STATUS), 0);
}
END_TEST

static uint32_t shown_at_edge;

static void look_at_page(void)
{
    shown_at_edge = shown32(VIRTIO_MMIO_INTERRUPT_STATUS);
}

START_TEST(page_follows_what_the_device_says)
{
    bring_up(VERSION_1);
    at_edge = look_at_page;
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert_uint_eq(shown_at_edge, VIRTIO_MMIO_INT_VRING);
    rec.config[4] = 0x55;
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert_uint_eq(shown_at_edge, VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_CONFIG + 4), 0x55);
    ck_assert_uint_ne(shown32(VIRTIO_MMIO_CONFIG_GENERATION), 0);
    rec.dev.transport->needs_reset(rec.dev.transport);
    ck_assert(shown32(VIRTIO_MMIO_STATUS) & NEEDS_RESET);
    at_edge = NULL;
    write32(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
}
END_TEST

START_TEST(generation_changes_with_the_configuration)
{
    uint32_t before = read32(VIRTIO_MMIO_CONFIG_GENERATION);

    ck_assert_uint_eq(read32(VIRTIO_MMIO_CONFIG_GENERATION), before);
    rec.dev.transport->notify_config(rec.dev.transport);
    ck_assert_uint_ne(read32(VIRTIO_MMIO_CONFIG_GENERATION), before);
    before = read32(VIRTIO_MMIO_CONFIG_GENERATION);
    rec.dev.transport->notify_used(rec.dev.transport, 0);
    ck_assert_uint_eq(read32(VIRTIO_MMIO_CONFIG_GENERATION), before);
}
END_TEST

static uint32_t shown_at_read, shown_at_interrupt;

static void look_before_the_change(void)
{
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_CONFIG), 0);
    shown_at_read = shown32(VIRTIO_MMIO_CONFIG_GENERATION);
}

static void look_after_the_change(void)
{
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_CONFIG), 0x66);
    shown_at_interrupt = shown32(VIRTIO_MMIO_CONFIG_GENERATION);
}

/* Whether the driver began to read before the change or looks again after it, it notices. */
START_TEST(generation_changes_before_and_after_the_configuration)
{
    uint32_t before;

    bring_up(VERSION_1);
    before = shown32(VIRTIO_MMIO_CONFIG_GENERATION);
    rec.config[0] = 0x66;
    rec.at_config_read = look_before_the_change;
    at_edge = look_after_the_change;
    rec.dev.transport->notify_config(rec.dev.transport);
    rec.at_config_read = NULL;
    at_edge = NULL;
    ck_assert_uint_ne(shown_at_read, before);
    ck_assert_uint_ne(shown_at_interrupt, shown_at_read);
    ck_assert_uint_ne(shown_at_interrupt, before);
    ck_assert_uint_eq(shown32(VIRTIO_MMIO_CONFIG_GENERATION), shown_at_interrupt);
}
END_TEST

START_TEST(registers_take_aligned_words_only)
{
    const struct bus_ops *ops = &virtio_mmio_bus_ops;

    bring_up(VERSION_1);
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (uint64_t off = 0; off + size <= VIRTIO_MMIO_CONFIG + 4; off++) {
            bool word = size == 4 && off % 4 == 0;

            if (word || off >= VIRTIO_MMIO_CONFIG)
                continue;
            ck_assert_uint_eq(ops->read(mmio, off, size), 0);
            ops->write(mmio, off, size, 0); /* a reset, if it counted */
        }
    }
    ck_assert_uint_eq(status(), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
    ck_assert(rec.running[0]);
}
END_TEST

START_TEST(garbage_on_every_register_does_no_harm)
{
    static const uint32_t values[] = {0xffffffff, 0x80000000, 1, 2, 0x41414141, 0};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        for (uint32_t off = 0; off < VIRTIO_MMIO_LEN; off += 4) {
            write32(off, values[i]);
            (void)read32(off);
        }
    }
    bring_up(VERSION_1);
    ck_assert(rec.running[0]);
}
END_TEST

/* A test case in which each test starts with a fresh device. */
#define device_case(suite, name, ...)                                                              \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        TCase *tcase_ = tcase_create(name);                                                        \
        tcase_add_checked_fixture(tcase_, set_up, tear_down);                                      \
        for (size_t i_ = 0; i_ < ARRAY_SIZE(tests_); i_++)                                         \
            tcase_add_test(tcase_, tests_[i_]);                                                    \
        suite_add_tcase(suite, tcase_);                                                            \
    } while (0)

static void add_tests(Suite *suite)
{
    device_case(suite, "features", device_introduces_itself, features_come_in_pages_of_32,
                features_are_agreed_on_or_refused, feature_bits_above_63_are_refused,
                features_are_frozen_once_agreed_on);
    device_case(suite, "status", status_goes_forward_step_by_step,
                driver_ok_starts_the_queues_that_are_ready, reset_returns_to_the_beginning,
                failing_start_asks_for_a_reset);
    device_case(suite, "queues", queues_that_do_not_exist_read_as_zero,
                queues_are_set_up_after_features_ok_only, queue_registers_are_locked_while_ready,
                no_queue_is_added_after_driver_ok, queue_that_makes_no_sense_asks_for_a_reset,
                queue_ready_zero_stops_the_queue, single_queue_can_be_reset_and_used_again,
                queue_reset_without_the_feature_does_nothing, odd_values_of_queue_ready_do_nothing,
                notify_kicks_the_queue);
    device_case(suite, "interrupts", interrupt_status_is_set_before_the_edge_and_cleared_by_ack,
                nobody_is_interrupted_before_driver_ok, handler_that_runs_at_once_finds_the_reason,
                every_event_makes_an_edge, needs_reset_tells_the_driver_once);
    device_case(suite, "accesses", config_is_accessed_in_all_widths, page_follows_what_is_written,
                page_follows_what_the_device_says, generation_changes_with_the_configuration,
                generation_changes_before_and_after_the_configuration,
                registers_take_aligned_words_only, garbage_on_every_register_does_no_harm);
}

UNIT_MAIN("virtio_mmio", add_tests)
