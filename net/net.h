/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the frames of a network card go to and come from: the contract between the virtio-net
 * device and a back end, which is one `const struct net_ops`.
 *
 * A back end outlives its users: each guest brings a device of its own, which attaches itself. The
 * main thread makes and closes it. Everything else happens on the thread of the loop that it is
 * attached to, the card's own. Nothing waits there: what cannot be done now is told of by an event.
 *
 * In both directions a frame is a vector whose first element is its header, NET_HDR_LEN bytes that
 * no guest can change, in the layout of struct virtio_net_hdr_v1, little-endian: what a tap with
 * IFF_VNET_HDR takes and gives. The Ethernet frame follows, without a checksum at its end. A back
 * end that has no such header leaves the first element out, or puts its own in its place.
 */
#ifndef MINIVMM_NET_NET_H
#define MINIVMM_NET_NET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

#define NET_HDR_LEN ((size_t)sizeof(struct virtio_net_hdr_v1))

/* A frame has an Ethernet header, and may have 64 KiB of IP in it (virtio 1.2, 5.1.6.3.1). */
#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65550u

/* Most elements of a frame, the header's included: what one system call takes (IOV_MAX). */
#define NET_IOV_MAX 1024u

/* Most frames in one call of `send`. */
#define NET_SEND_MAX 64u

/*
 * The offloads that a back end can have, as masks of VIRTIO_NET_F_…. What goes without these: a
 * frame of at most `mtu` bytes behind its Ethernet header, with all its checksums.
 *
 *   CSUM, HOST_TSO4, HOST_TSO6          it takes frames without a checksum, or to be cut
 *   GUEST_CSUM, GUEST_TSO4, GUEST_TSO6  it can be told to give such frames, or those whose
 *                                       checksums it has looked at
 */
#define NET_OFFLOADS                                                                               \
    (1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 | \
     1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |                           \
     1ull << VIRTIO_NET_F_GUEST_TSO6)

struct net_frame {
    const struct iovec *iov; /* the header, then NET_FRAME_MIN to NET_FRAME_MAX bytes */
    unsigned niov;           /* 2 to NET_IOV_MAX */
    uint32_t len;            /* of the frame, without the header */
    bool dropped;            /* the back end sets it: taken, but it will not arrive */
};

struct net;

/* Who uses a back end: the device, which embeds it. All on the loop's thread, not inside a call. */
struct net_user {
    /* While `receive` is watched, once in each round of the loop in which there is something. */
    void (*readable)(struct net_user *user);
    /* Once after a `send` that left something, unless the link goes down: it takes more. */
    void (*writable)(struct net_user *user);
    /* `link_up` has changed. */
    void (*link_changed)(struct net_user *user);
};

struct net_ops {
    /*
     * What was begun when it was opened has come to an end: does it work? Main thread, before the
     * first attach; as late as possible, since it may wait. NULL: there is nothing to wait for. 0,
     * or a negative errno with *err filled.
     */
    int (*wait_ready)(struct net *net, struct err *err);
    /*
     * Begin to work on a loop, for a user. Nothing is watched, and no offload is agreed on. 0 or
     * -errno: then it is not attached.
     */
    int (*attach)(struct net *net, struct loop *loop, struct net_user *user);
    /*
     * The user is gone, and no event comes any more. Frames that were taken are sent, if that does
     * not have to wait.
     */
    void (*detach)(struct net *net);
    /*
     * What the driver agreed to, a part of `offloads`: from now on frames come in this form. It may
     * be called again at any time. 0 or -errno, and all is as it was.
     */
    int (*set_offloads)(struct net *net, uint64_t offloads);
    /*
     * Send frames, in their order; returns how many were taken, from the first on. Fewer than all
     * means that it is full: `writable` comes, and the rest is offered again, or something else.
     * What was taken does not lie in the caller's memory any more. Never called while the link is
     * down, or between a full back end and `writable`.
     */
    unsigned (*send)(struct net *net, struct net_frame *frames, unsigned nframes);
    /*
     * Receive one frame into `iov`: the header, then room for the largest frame that may come by
     * `mtu` and the offloads that were agreed on or, if frames are not merged by the other side or
     * it has not so much, for all that the driver can take. How many buffers that were is the
     * user's to say in the header.
     *
     * Returns the length without the header, at least NET_FRAME_MIN; 0: there is none; -EMSGSIZE:
     * the next one was dropped, for it is too long or too short, and there may be more. An end or
     * an error on the other side is no frame: the link goes down.
     *
     * After 0, a part of a frame may be in the buffers. The next call brings the same ones, with
     * the same room or more, unless set_offloads or detach comes before it.
     */
    ssize_t (*receive)(struct net *net, const struct iovec *iov, unsigned niov);
    /* Does the user want to be told that there is something? Off, no wake-up is spent on it. */
    void (*watch)(struct net *net, bool on);
    /*
     * The tap itself, with headers, for the kernel's vhost-net to work on; -1: it has none. NULL:
     * there is no tap. While that works on it, nobody calls send and receive. Any thread.
     */
    int (*tap_fd)(struct net *net);
    /* Frees it. Main thread; not attached. */
    void (*close)(struct net *net);
};

/* The part common to all back ends, embedded in each. Constant but for `link_up`. */
struct net {
    const struct net_ops *ops;
    const char *kind;  /* as in --net, but for "fd" and "bridge", which are a "tap" */
    const char *label; /* which one, for people: "tap0", "/run/net.sock" */
    uint64_t offloads; /* of NET_OFFLOADS, those it can have */
    uint16_t mtu;      /* the driver shall know it; 0: nothing is said, which is 1500 */
    bool is_filtered;  /* only what is for the card's address comes: the device need not look */
    bool link_up;      /* owner: the loop's thread; the main thread before the first attach */
};

#endif
