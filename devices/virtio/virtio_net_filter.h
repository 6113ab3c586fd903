/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which received frames are for the guest (virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2). One thread.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_FILTER_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "net/mac.h"

/* Addresses in a table; with more, all addresses of the kind are let in. */
#define NET_FILTER_MACS 64u

struct net_filter_table {
    bool overflow;
    unsigned n;
    struct mac macs[NET_FILTER_MACS];
};

struct net_filter {
    struct mac mac; /* the card's */
    /* Indexed by the commands of class VIRTIO_NET_CTRL_RX, which switch them. */
    bool modes[6];
    struct net_filter_table unicast;
    struct net_filter_table multicast;
};

/* As a driver finds it: everything is let in, until it says what it wants. */
void net_filter_reset(struct net_filter *filter, const struct mac *mac);

/* A command of class VIRTIO_NET_CTRL_RX. False: there is none with that number. */
bool net_filter_set_mode(struct net_filter *filter, uint8_t command, bool on) MUST_CHECK;

/* Put `n` addresses into an empty table, or note that there are too many. */
void net_filter_fill(struct net_filter_table *table, const struct mac *macs, uint32_t n);

/* May a frame with this destination pass? */
bool net_filter_passes(const struct net_filter *filter, const struct mac *destination);

#endif
