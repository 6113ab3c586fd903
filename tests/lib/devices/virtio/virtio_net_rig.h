/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-net device of virtio_rig.h on a back end in memory: what the tests of virtio_net*.c have
 * in common. Each test of a net_case has a back end and guest memory of its own;
 * it changes net.fake and net.options to its taste, then starts the device.
 */
#ifndef MINIVMM_TESTS_VIRTIO_NET_RIG_H
#define MINIVMM_TESTS_VIRTIO_NET_RIG_H

#include <linux/virtio_net.h>

#include "devices/virtio/virtio_net.h"
#include "tests/lib/devices/virtio/virtio_rig.h"
#include "tests/lib/net/fake_net.h"

/* Where things are in guest memory behind the rings: headers of sent frames, a command, buffers. */
#define HDR_GPA(i) (1 * MIB + 64 * (uint64_t)(i))
#define COMMAND_GPA (2 * MIB)
#define TX_GPA (4 * MIB)
#define RX_GPA (8 * MIB)

enum { RX_QUEUE, TX_QUEUE, CTRL_QUEUE, NET_QUEUES };

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_NET_F_##name)
#define EVENT_IDX VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)
#define VERSION_1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

struct net_rig {
    struct fake_net *fake;
    struct virtio_net_counters counters;
    struct virtio_net_options options;
};

extern struct net_rig net;
extern const struct mac net_mac; /* the card's */

void net_start(void);

/* Negotiate, set up the three queues and start them; settled then. */
void net_bring_up_with(uint64_t features, uint16_t size);

/* The usual beginning: start, all features, queues of 64. */
void net_bring_up(void);

/* Run on the thread, and settle. */
void net_on_loop(void (*fn)(void *opaque), void *opaque);

/* The back end has room for so many frames more; its link comes up, or goes down. */
void net_make_room(unsigned nframes);
void net_set_link(bool up);

/* Show what was offered, and kick if the device wants that; settled then. */
void net_kick(unsigned queue);

/* Acknowledge interrupts; was there one since the last call, and of which kind? */
uint32_t net_take_interrupts(void);

/* Offer a buffer for received frames, filled with RIG_UNTOUCHED. */
uint16_t net_offer_buffer(uint64_t gpa, uint32_t len);

/* Offer `n` of `len` bytes, one behind the other, at multiples of 2048, and kick. */
void net_offer_buffers(unsigned n, uint32_t len);

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

/* Send one, and see it arrive. */
void net_send(uint32_t len, unsigned seed);

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
