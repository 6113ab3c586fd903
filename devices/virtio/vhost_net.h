/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's vhost-net: it works on the queues of a network card and on a tap itself, in a thread
 * of its own, so that frames do not pass through this process.
 *
 * One thread at a time. What the kernel does with a ring of a hostile driver stays in guest memory:
 * it translates addresses by the table that it was given.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VHOST_NET_H
#define MINIVMM_DEVICES_VIRTIO_VHOST_NET_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "devices/virtio/virtq.h"
#include "memory/guest_mem.h"

#define VHOST_NET_DEVICE "/dev/vhost-net"

struct vhost_net {
    int fd;            /* owned */
    uint64_t features; /* that the kernel has */
};

/* 0, or a negative errno with *err filled: it is not there, not for this user, or too old. */
int vhost_net_open(struct vhost_net *vhost, struct err *err) MUST_CHECK;
void vhost_net_close(struct vhost_net *vhost);

/* A guest begins: this is its memory. No queue runs. 0 or -errno. */
int vhost_net_set_memory(struct vhost_net *vhost, const struct guest_mem *mem) MUST_CHECK;

/* The driver agreed on these features; no queue runs. The rest of these: 0 or -errno. */
int vhost_net_set_features(struct vhost_net *vhost, uint64_t features) MUST_CHECK;

/* A queue that the kernel is given: 0 receives, 1 sends. It goes on at vq->next_avail. */
struct vhost_net_queue {
    unsigned index;
    const struct virtq *vq; /* started; nothing is in flight */
    int tap_fd;
    int kick_fd;  /* eventfds */
    int call_fd;  /* the driver wants an interrupt */
    int error_fd; /* the driver broke a rule of the ring */
};

/* 0 or -errno: then the kernel does not work on it. */
int vhost_net_start(struct vhost_net *vhost, const struct vhost_net_queue *queue) MUST_CHECK;

/*
 * Take the queue away: nothing of it is in flight then, and *ret_position is where it can go on. On
 * failure the kernel does not work on it either.
 */
int vhost_net_stop(struct vhost_net *vhost, unsigned index, uint16_t *ret_position) MUST_CHECK;

#endif
