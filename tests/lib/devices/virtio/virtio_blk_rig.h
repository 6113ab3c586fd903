/*
 * A virtio-blk device on a disk in memory, with its I/O thread, and the requests of a driver: what
 * the tests of virtio_blk.c have in common. Included in one source file of a program.
 *
 * A test calls set_up, changes `disk` to its taste, and starts the device; tear_down ends all.
 */
#ifndef MINIVMM_TESTS_VIRTIO_BLK_RIG_H
#define MINIVMM_TESTS_VIRTIO_BLK_RIG_H

#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <string.h>

#include "devices/virtio/virtio_blk.h"
#include "tests/lib/devices/virtio/fake_block.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"

#define MEM_LEN (16 * MIB)
#define DISK_LEN (1 * MIB)
#define DISK_SECTORS (DISK_LEN / 512)

/* Where things are in guest memory: rings, then one header and status per request, then data. */
#define RING_GPA(queue) (0x10000u + 0x10000u * (queue))
#define HEADER_GPA(i) (1 * MIB + 64 * (uint64_t)(i))
#define STATUS_GPA(i) (HEADER_GPA(i) + 32)
#define DATA_GPA (8 * MIB)
#define TABLE_GPA (4 * MIB)

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_BLK_F_##name)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

#define UNTOUCHED 0xee /* fill for what the device must not write */
#define TIMEOUT_MS 10000

static struct loop *loop;
static pthread_t loop_thread;
static struct block *disk;
static struct guest_mem *mem;
static struct irq irq;
static struct virtio_mmio *mmio;
static struct virtio_dev *blk_dev; /* the transport's */
static struct driver_ring ring;

static inline void *loop_main(void *arg)
{
    ck_assert_int_eq(loop_run(loop), 0);
    return NULL;
}

static inline void set_up(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
    disk = fake_block_new(loop, DISK_LEN);
    mem = driver_mem_new(MEM_LEN);
    ck_assert_int_eq(irq_init(&irq, 5), 0);
}

/* After the test has changed the disk to its taste. */
static inline void start_device(unsigned nqueues)
{
    const struct virtio_blk_options options = {
        .block = disk,
        .loop = loop,
        .label = "disk vda",
        .serial = "root-disk",
        .nqueues = nqueues,
    };

    ck_assert_int_eq(pthread_create(&loop_thread, NULL, loop_main, NULL), 0);
    ck_assert_int_eq(virtio_blk_new(&options, mem, &blk_dev), 0);
    ck_assert_int_eq(virtio_mmio_new(blk_dev, &irq, &mmio), 0);
}

static inline void bring_up_with(uint64_t features, uint16_t size)
{
    ck_assert(driver_negotiate(mmio, features));
    driver_ring_init(&ring, mem, RING_GPA(0), size, features & EVENT_IDX);
    ck_assert(driver_setup_queue(mmio, 0, &ring));
    driver_set_driver_ok(mmio);
}

/* The usual beginning: one queue of 16, all features. */
static inline void bring_up(void)
{
    start_device(1);
    bring_up_with(driver_features(mmio), 16);
}

static inline void tear_down(void)
{
    virtio_mmio_free(mmio);
    loop_stop(loop);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
    fake_block_free(disk);
    irq_done(&irq);
    guest_mem_free(mem);
}

static inline void nothing(void *opaque)
{
}

/* Wait until the loop has done what it was told before; its thread's data can be looked at then. */
static inline void settle(void)
{
    for (int i = 0; i < 4; i++)
        loop_call(loop, nothing, NULL);
}

/* ---- requests -------------------------------------------------------------------------------- */

static inline uint8_t *guest(uint64_t gpa, size_t len)
{
    return driver_at(mem, gpa, len);
}

static inline void put_header(unsigned i, uint32_t type, uint64_t sector)
{
    const struct virtio_blk_outhdr header = {.type = htole32(type), .sector = htole64(sector)};

    memcpy(guest(HEADER_GPA(i), sizeof(header)), &header, sizeof(header));
    *guest(STATUS_GPA(i), 1) = UNTOUCHED;
}

static inline void kick(void)
{
    if (driver_show(&ring))
        driver_kick(mmio, 0);
}

/* The next used element, waiting for an interrupt as a guest does. */
static inline struct vring_used_elem wait_used(struct driver_ring *from)
{
    struct vring_used_elem elem;

    while (!driver_take(from, &elem)) {
        if (driver_want_interrupt(from))
            continue;
        ck_assert_msg(driver_wait_irq(&irq, TIMEOUT_MS), "no interrupt");
        (void)driver_ack(mmio);
    }
    return elem;
}

/* Offer a request with one data buffer, or none, and do not wait. */
static inline uint16_t add_request(unsigned i, uint32_t type, uint64_t sector, uint64_t data_gpa,
                                   uint32_t len)
{
    bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    const struct driver_buf bufs[] = {
        {HEADER_GPA(i), sizeof(struct virtio_blk_outhdr), false},
        {data_gpa, len, reads},
        {STATUS_GPA(i), 1, true},
    };

    put_header(i, type, sector);
    return driver_add(&ring, bufs, 3);
}

/* Run one request; returns its status and, if wanted, what the used ring says was written. */
static inline uint8_t request(uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_written)
{
    uint16_t head = add_request(0, type, sector, DATA_GPA, len);
    struct vring_used_elem elem;

    kick();
    elem = wait_used(&ring);
    ck_assert_uint_eq(elem.id, head);
    if (ret_written)
        *ret_written = elem.len;
    return *guest(STATUS_GPA(0), 1);
}

/* ---- test cases ------------------------------------------------------------------------------ */

static inline void rig_add_case(Suite *suite, const char *name, const TTest *const *tests,
                                size_t ntests)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60); /* sanitizers on a busy machine */
    for (size_t i = 0; i < ntests; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

/* A test case in which each test has a disk of its own. */
#define disk_case(suite, name, ...)                                                                \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        rig_add_case(suite, name, tests_, ARRAY_SIZE(tests_));                                     \
    } while (0)

#endif
