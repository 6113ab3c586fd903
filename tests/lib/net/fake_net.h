/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back end of a network card in memory, for tests of its users: it keeps what the guest sends,
 * gives what the test has put into it, is full, and fails on demand. It checks that its user keeps
 * to the contract (net/net.h).
 */
#ifndef MINIVMM_TESTS_FAKE_NET_H
#define MINIVMM_TESTS_FAKE_NET_H

#include <stddef.h>

#include "net/net.h"

#define FAKE_NET_FRAMES 2048u

/* Its tap, of which nothing is but the number. */
#define FAKE_NET_TAP 123456

struct fake_frame {
    struct virtio_net_hdr_v1 hdr;
    uint32_t len;
    uint8_t *bytes; /* malloc */
};

struct fake_queue {
    unsigned head; /* counts up */
    unsigned tail;
    struct fake_frame frames[FAKE_NET_FRAMES];
};

/* Owner: the loop's thread; tests change and look at it there, or while that is idle. */
struct fake_net {
    struct net net;
    struct loop *loop;
    struct net_user *user;
    struct loop_work readable;
    struct loop_work writable;
    struct fake_queue to_guest;
    struct fake_queue from_guest;
    bool watched;
    bool is_full; /* `writable` is due */
    uint64_t offloads;
    unsigned nsends;
    unsigned nreceives;
    unsigned nwatches;  /* times that watching was switched */
    unsigned nsets;     /* of offloads */
    uint64_t room_seen; /* bytes in the last vector to receive into, without the header */

    /* Set by the test. */
    unsigned room;       /* frames that are taken until it is full */
    unsigned drop_every; /* with a number, each so many-th frame is taken and dropped */
    int attach_result;
    int offloads_result;
};

/* All offloads, the link is up, and there is room for everything. */
struct fake_net *fake_net_new(void);
void fake_net_free(struct fake_net *fake);

/* On the loop's thread, or before it is attached. A frame for the guest; copied. */
void fake_net_give(struct fake_net *fake, const struct virtio_net_hdr_v1 *hdr, const void *bytes,
                   uint32_t len);

/* On the loop's thread. The oldest frame of the guest, kept until the next call; NULL: none. */
const struct fake_frame *fake_net_take(struct fake_net *fake);

/* On the loop's thread. Take so many frames more. */
void fake_net_make_room(struct fake_net *fake, unsigned nframes);

/* On the loop's thread. */
void fake_net_set_link(struct fake_net *fake, bool up);

#endif
