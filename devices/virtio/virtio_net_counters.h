/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes through a network card, counted. The card's thread writes, any thread reads.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_COUNTERS_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_COUNTERS_H

#include <stdint.h>

#include "devices/virtio/virtio_rings.h"

/* Atomic, each by itself. */
struct virtio_net_counters {
    /* Frames and their bytes without the header of virtio; `dropped` ones are not among them. */
    struct virtio_net_traffic {
        uint64_t frames;
        uint64_t bytes;
        uint64_t dropped;
    } received, sent;  /* by the guest */
    uint64_t filtered; /* came, but not for the guest */
    uint64_t starved;  /* how often the guest's buffers for frames ran out */
    uint64_t full;     /* how often frames of the guest had to wait for the back end */
    struct virtio_ring_counters rings;
};

/* On the card's thread. */
static inline void net_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* Any thread. */
static inline uint64_t net_counted(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

#endif
