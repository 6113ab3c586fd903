/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that a guest sends; private to virtio_net*.c. On the loop's thread, but for the first and
 * the last function.
 *
 * They go to the back end straight out of guest memory, many in one call, and their chains are
 * given back when that returns. What it does not take stays in the ring, where it is found again.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_TX_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_TX_H

#include "devices/virtio/virtio_net_card.h"
#include "devices/virtio/virtio_net_limiter.h"

struct net_tx_batch;

struct net_tx {
    struct net_card *card;
    struct virtio_ring *ring;
    struct net_limiter limiter;
    struct loop_timer timer; /* armed while frames wait for the limits */
    struct net_tx_batch *batch;
    bool full; /* the back end is, and says when it no longer is; whatever the driver does */
};

/* 0 or -errno. The rings are made. */
int net_tx_init(struct net_tx *tx, struct net_card *card, unsigned index,
                const struct virtio_net_limits *limits) MUST_CHECK;

/* Send what the ring has (virtio_rings.h). */
void net_tx_work(struct net_tx *tx);

/* The queue is stopped, or a pause begins. */
void net_tx_rest(struct net_tx *tx);

/* The back end takes frames again, or its link is down. */
void net_tx_go_on(struct net_tx *tx);

void net_tx_done(struct net_tx *tx);

#endif
