/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2, 5.1) on a back end (net/net.h).
 *
 * Each card has one thread with its own loop, which owns the back end while a device is attached to
 * it, and all running queues: one pair, and the control queue.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_H

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/vhost_net.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_net_counters.h"
#include "devices/virtio/virtio_net_filter.h"
#include "devices/virtio/virtio_net_limiter.h"
#include "net/net.h"

struct virtio_net_options {
    struct net *net;   /* not owned; outlives the device, as the next two do */
    struct loop *loop; /* it runs while the device exists */
    struct virtio_net_counters *counters;
    struct vhost_net *vhost; /* not owned; NULL, or the kernel works on queues with a tap */
    struct mac mac;
    struct virtio_net_limits limits; /* on each direction */
    bool link_up;                    /* as virtio_net_set_link */
    /* The device is freed: not to be used any more. On the thread that frees it. */
    void (*freed)(void *opaque);
    void *opaque;
};

/* The device is handed to a transport, whose end frees it. 0 or -errno. */
int virtio_net_new(const struct virtio_net_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev) MUST_CHECK;

/*
 * The following on the main thread; they wait for the card's, which waits for nobody.
 *
 * With false the link is down, whatever the back end says; it is up only if that says so, too.
 */
void virtio_net_set_link(struct virtio_dev *dev, bool up);

/* Have the guest tell the network where it is, if its driver can: switches learn it from that. */
void virtio_net_announce(struct virtio_dev *dev);

struct virtio_net_state {
    bool link_up;   /* as the guest is told */
    bool by_kernel; /* it moves frames, which are not counted */
    struct net_filter filter;
};

void virtio_net_get_state(struct virtio_dev *dev, struct virtio_net_state *ret_state);

#endif
