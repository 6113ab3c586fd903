/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a virtio-net device share; private to virtio_net*.c. Owner: the loop's thread,
 * but for the device's common part.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_CARD_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_CARD_H

#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_net_counters.h"
#include "devices/virtio/virtio_net_filter.h"
#include "devices/virtio/virtio_rings.h"
#include "net/net.h"

/*
 * Frames of one direction in a round of the loop: so many take some tenths of a millisecond, then
 * it is the other direction's turn.
 */
#define NET_ROUND_FRAMES 256u

struct net_card {
    struct virtio_rings rings;
    struct net *net;
    struct virtio_net_counters *counters;
    struct net_filter filter;
    uint64_t features; /* of the last driver that agreed on some; rings.dev's is the transport's */
    uint64_t offloads; /* agreed on, of NET_OFFLOADS */
    bool link_up;      /* the back end's, unless the user took it down */
    bool must_announce;
    /* The configuration space is to show what is here now. */
    void (*config_changed)(struct net_card *card);
};

static inline bool net_card_has(const struct net_card *card, unsigned feature)
{
    return card->features & VIRTIO_FEATURE(feature);
}

/* The offloads among some features, without those whose basis is missing (5.1.3.1). */
static inline uint64_t net_offloads_of(uint64_t features)
{
    uint64_t offloads = features & NET_OFFLOADS;

    if (!(features & VIRTIO_FEATURE(VIRTIO_NET_F_CSUM)))
        offloads &=
            ~(VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6));
    if (!(features & VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM)))
        offloads &=
            ~(VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6));
    return offloads;
}

#endif
