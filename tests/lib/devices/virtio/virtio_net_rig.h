/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net device on a back end in memory, with its thread, and a driver: what the tests of
 * virtio_net*.c have in common. Each test of a net_case has a back end and guest memory of its own;
 * it changes net.fake and net.options to its taste, then starts the device.
 */
#ifndef MINIVMM_TESTS_VIRTIO_NET_RIG_H
#define MINIVMM_TESTS_VIRTIO_NET_RIG_H

#include <linux/virtio_mmio.h>
#include <linux/virtio_net.h>
#include <pthread.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_net.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/net/fake_net.h"
#include "tests/lib/unit.h"

/* Where things are in guest memory: rings, headers of sent frames, a command, then buffers. */
#define RING_GPA(queue) (0x10000u + 0x10000u * (queue))
#define HDR_GPA(i) (1 * MIB + 64 * (uint64_t)(i))
#define COMMAND_GPA (2 * MIB)
#define TX_GPA (4 * MIB)
#define RX_GPA (8 * MIB)
#define MEM_LEN (32 * MIB)

enum { RX_QUEUE, TX_QUEUE, CTRL_QUEUE, NET_QUEUES };

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_NET_F_##name)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

#define UNTOUCHED 0xee /* fill for what the device must not write */
#define TIMEOUT_MS 10000

struct net_rig {
    struct loop *loop;
    pthread_t loop_thread;
    struct fake_net *fake;
    struct virtio_net_counters counters;
    struct virtio_net_options options;
    struct guest_mem *mem;
    struct irq irq;
    struct virtio_mmio *mmio;
    struct virtio_dev *dev; /* the transport's */
    struct driver_ring rings[NET_QUEUES];
};

extern struct net_rig net;
extern const struct mac net_mac; /* the card's */

void net_start(void);

/* Negotiate, and set up the three queues. */
void net_bring_up_with(uint64_t features, uint16_t size);

/* The usual beginning: start, all features, queues of 64. */
void net_bring_up(void);

/* Wait until the thread has done what it was told before. */
void net_settle(void);

/* Run on the thread, and settle. */
void net_on_loop(void (*fn)(void *opaque), void *opaque);

uint8_t *net_guest(uint64_t gpa, size_t len);

/* Show what was offered, and kick if the device wants that; settled then. */
void net_kick(unsigned queue);

/* The next used element; fails the test if none comes. */
struct vring_used_elem net_wait_used(unsigned queue);

/* Is there none? */
bool net_nothing_used(unsigned queue);

/* Acknowledge interrupts; was there one since the last call, and of which kind? */
uint32_t net_take_interrupts(void);

/* Offer a buffer for received frames, filled with UNTOUCHED. */
uint16_t net_offer_buffer(uint64_t gpa, uint32_t len);

/* A frame of `len` bytes, for the card, with contents that depend on `seed`. */
void net_fill_frame(uint8_t *bytes, uint32_t len, unsigned seed);

/* Have one received. */
void net_give(uint32_t len, unsigned seed);
void net_give_with(const struct virtio_net_hdr_v1 *hdr, uint32_t len, unsigned seed);
void net_give_bytes(const void *bytes, uint32_t len);

/* Offer one to be sent, header `i` and contents in a buffer each; not shown yet. */
uint16_t net_offer_frame(unsigned i, const struct virtio_net_hdr_v1 *hdr, uint32_t len,
                         unsigned seed);

/* What arrived at the back end next is such a frame; fails the test otherwise. */
void net_expect_sent(uint32_t len, unsigned seed);

/* What arrived next; NULL: nothing. */
const struct fake_frame *net_take_sent(void);

/* A command; returns the answer. */
uint8_t net_command(uint8_t class, uint8_t command, const void *data, uint32_t len);

#define net_case(suite, name, ...)                                                                 \
    do {                                                                                           \
        const TTest *const tests_[] = {__VA_ARGS__};                                               \
        net_add_case(suite, name, tests_, ARRAY_SIZE(tests_));                                     \
    } while (0)

void net_add_case(Suite *suite, const char *name, const TTest *const *tests, size_t ntests);

/* A case of one test that runs for each _i below `n`. */
void net_add_loop_case(Suite *suite, const char *name, const TTest *test, int n);

#endif
