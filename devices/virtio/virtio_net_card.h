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
    struct virtio_dev dev;
    struct virtio_rings rings;
    struct net *net;
    struct virtio_net_counters *counters;
    struct net_filter filter;
    uint64_t offloads; /* agreed on, of NET_OFFLOADS */
    bool link_up;      /* the back end's, unless the user took it down */
    bool must_announce;
    /* The configuration space is to show what is here now. */
    void (*config_changed)(struct net_card *card);
};

static inline bool net_card_has(const struct net_card *card, unsigned feature)
{
    return card->dev.features & VIRTIO_FEATURE(feature);
}

#endif
