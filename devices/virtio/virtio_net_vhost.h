/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data queues of a card, lent to the kernel (vhost_net.h); private to virtio_net*.c.
 *
 * The kernel gets a queue when the device would look at its ring, and gives it back when the queue
 * is stopped, the device is paused, the driver breaks a rule of any ring, or the link goes down:
 * then the device drops what is sent. What the kernel cannot do, the device goes on to do itself.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_VHOST_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_VHOST_H

#include <stdbool.h>

#include "devices/virtio/vhost_net.h"
#include "devices/virtio/virtio_net_card.h"

/* The queue that receives, and the one that sends (5.1.2). */
#define NET_VHOST_QUEUES 2u

struct net_vhost_queue {
    struct net_vhost *vhost;
    unsigned index;
    struct loop_fd call;  /* eventfd: the driver wants an interrupt */
    struct loop_fd error; /* eventfd: it broke a rule */
};

/* Owner: the loop's thread. */
struct net_vhost {
    struct net_card *card;
    struct vhost_net *kernel; /* NULL: the device does it all itself */
    struct net_vhost_queue queues[NET_VHOST_QUEUES];
};

/* `kernel` is not owned, and may be NULL. The rings are made. 0 or -errno. */
int net_vhost_init(struct net_vhost *vhost, struct net_card *card,
                   struct vhost_net *kernel) MUST_CHECK;
void net_vhost_done(struct net_vhost *vhost);

/* ---- the loop's thread ----------------------------------------------------------------------- */

/* What the driver agreed on, in the card. */
void net_vhost_features_ok(struct net_vhost *vhost);

/* Is the kernel to work on queues that run? */
static inline bool net_vhost_is_wanted(const struct net_vhost *vhost)
{
    return vhost->kernel && vhost->card->link_up;
}

/* Give it a ring that runs, with nothing in flight. False: the device keeps it. */
bool net_vhost_give(struct net_vhost *vhost, unsigned index) MUST_CHECK;

/* Take it back, if it has it. */
void net_vhost_take_back(struct net_vhost *vhost, unsigned index);

#endif
