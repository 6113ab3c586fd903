/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that a guest receives; private to virtio_net*.c. On the loop's thread, but for the first
 * and the last function.
 *
 * The back end writes them straight into guest memory. It is watched only while a frame could be
 * taken: without buffers, or when limits say so, nothing wakes the thread, and frames wait where
 * they are.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_RX_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_RX_H

#include "devices/virtio/virtio_net_card.h"
#include "devices/virtio/virtio_net_limiter.h"

struct net_pool;

struct net_rx {
    struct net_card *card;
    struct virtio_ring *ring;
    struct net_limiter limiter;
    struct loop_timer timer; /* armed while frames wait for the limits */
    struct net_pool *pool;
    bool has_room;
    bool is_watching;
};

/* 0 or -errno. The rings are made. */
int net_rx_init(struct net_rx *rx, struct net_card *card, unsigned index,
                const struct virtio_net_limits *limits) MUST_CHECK;

/* The queue is about to be started: there are no buffers. */
void net_rx_begin(struct net_rx *rx);

/* The driver brought buffers, or may have (virtio_rings.h). */
void net_rx_work(struct net_rx *rx);

/* The queue is stopped, or a pause begins. */
void net_rx_rest(struct net_rx *rx);

/* Somebody else gets the ring: put the buffers back on it. The ring runs. */
void net_rx_give_up(struct net_rx *rx);

/* The back end has something. */
void net_rx_readable(struct net_rx *rx);

/* The link has changed: is the back end to be watched? */
void net_rx_update(struct net_rx *rx);

void net_rx_done(struct net_rx *rx);

#endif
