/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control queue (virtio 1.2, 5.1.6.5): what a driver says about the frames that it wants.
 * Private to virtio_net*.c. On the loop's thread.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_CTRL_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_CTRL_H

#include "devices/virtio/virtio_net_card.h"

/* What a driver may change of the offloads that it agreed to. */
#define NET_GUEST_OFFLOADS                                                                         \
    (VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |           \
     VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6))

/* Carry out the commands of the ring (virtio_rings.h). */
void net_ctrl_work(struct net_card *card, struct virtio_ring *ring);

#endif
