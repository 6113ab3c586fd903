/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk device on a disk in memory, with its I/O thread, and the requests of a driver: what
 * the tests of virtio_blk.c have in common. Each test of a blk_case has a disk and guest memory of
 * its own; it changes blk.disk to its taste, then starts the device.
 */
#ifndef MINIVMM_TESTS_VIRTIO_BLK_RIG_H
#define MINIVMM_TESTS_VIRTIO_BLK_RIG_H

#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_blk.h"
#include "tests/lib/devices/virtio/fake_block.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"

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

struct blk_rig {
    struct loop *loop;
    pthread_t loop_thread;
    struct block *disk;
    struct block_port port;
    struct guest_mem *mem;
    struct irq irq;
    struct virtio_mmio *mmio;
    struct virtio_dev *dev;  /* the transport's */
    struct driver_ring ring; /* of the first queue */

    /* For the device's options; a test sets them before it starts the device. */
    enum virtio_blk_on_error on_write_error;
    enum virtio_blk_on_error on_read_error;
    void (*failed)(void *opaque, const struct virtio_blk_failure *failure);
};

extern struct blk_rig blk;

/* Start the device, after the test has changed the disk. */
void blk_start(unsigned nqueues);

/* Negotiate features, and set up the first queue. */
void blk_bring_up_with(uint64_t features, uint16_t size);

/* The usual beginning: start with one queue of 16, all features. */
void blk_bring_up(void);

/* Wait until the loop has done what it was told before; its thread's data can be looked at then. */
void blk_settle(void);

/* Guest memory. */
uint8_t *blk_guest(uint64_t gpa, size_t len);

void blk_put_header(unsigned i, uint32_t type, uint64_t sector);
void blk_kick(void);

/* On the loop's thread: go on in the ring where whoever kicked last has left it. */
void blk_see_kick(void);

/* The next used element, waiting for an interrupt as a guest does. */
struct vring_used_elem blk_wait_used(struct driver_ring *from);

/* Offer a request with one data buffer, or none, and do not wait. */
uint16_t blk_add_request(unsigned i, uint32_t type, uint64_t sector, uint64_t data_gpa,
                         uint32_t len);

/* Run one request; returns its status and, if wanted, what the used ring says was written. */
uint8_t blk_request(uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_written);

/* A test case in which each test has a rig of its own. */
#define blk_case(suite, name, ...)                                                                 \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        blk_add_case(suite, name, tests_, ARRAY_SIZE(tests_));                                     \
    } while (0)

/* A case of one test that runs for each _i below `n`. */
void blk_add_loop_case(Suite *suite, const char *name, const TTest *test, size_t n);

void blk_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests);

#endif
