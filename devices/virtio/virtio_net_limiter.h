/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits on one direction of a network card, by two leaky buckets (base/bucket.h) that hold a tenth
 * of a second. One thread.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_LIMITER_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bucket.h"

/* What comes in a second; 0: no limit. */
struct virtio_net_limits {
    uint64_t bps; /* bytes, without the header of virtio */
    uint64_t pps; /* packets: a frame that is to be cut counts as its pieces */
};

struct net_limiter {
    struct virtio_net_limits limits;
    struct bucket bytes;
    struct bucket packets;
    uint64_t leaked_ns;
};

void net_limiter_init(struct net_limiter *limiter, const struct virtio_net_limits *limits,
                      uint64_t now_ns);

static inline bool net_limiter_is_on(const struct net_limiter *limiter)
{
    return limiter->limits.bps > 0 || limiter->limits.pps > 0;
}

void net_limiter_count(struct net_limiter *limiter, uint64_t bytes, uint64_t packets);

/* How long until another frame may pass, after those that are not counted yet; 0: now. */
uint64_t net_limiter_wait_ns(struct net_limiter *limiter, uint64_t now_ns, uint64_t bytes,
                             uint64_t packets);

#endif
