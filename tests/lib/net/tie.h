/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two back ends tied to each other: what one receives the other sends. With a tap at one end, the
 * host's Linux is the guest of the other.
 */
#ifndef MINIVMM_TESTS_NET_TIE_H
#define MINIVMM_TESTS_NET_TIE_H

#include "base/loop.h"
#include "net/net.h"

struct tie_end {
    struct net_user user;
    struct net *net;
    struct tie_end *other;
    struct virtio_net_hdr_v1 header;
    uint8_t frame[NET_FRAME_MAX];
    uint32_t pending; /* length of a frame that the other end has no room for; 0: none */
    unsigned nframes; /* taken by the other end */
    unsigned nwhole;  /* of those, such as are to be cut by somebody else */
    unsigned ndropped;
};

struct tie {
    struct tie_end ends[2];
};

/* Tie them on a loop; each agrees to what the other takes. */
void tie_on(struct tie *tie, struct loop *loop, struct net *a, struct net *b);
void tie_off(struct tie *tie);

#endif
