/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of an isolated guest on their way to passt: those to the host's loopback addresses do not
 * get there. Versions of passt before 2024 connect to whatever address a frame names, and for that
 * a guest needs no more than a raw socket.
 *
 * A guest may change its memory at any time: what is looked at here is a copy, and that is sent.
 */
#ifndef MINIVMM_NET_PASST_GUARD_H
#define MINIVMM_NET_PASST_GUARD_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "net/net.h"

/* An Ethernet and an IPv6 header: the addresses of both kinds of IP are in it. */
#define PASST_GUARD_HEAD 54u

/* All zero to begin with. One thread. */
struct passt_guard {
    struct net_frame frames[NET_SEND_MAX];
    struct iovec iov[NET_IOV_MAX];
    uint8_t heads[NET_SEND_MAX][PASST_GUARD_HEAD];
};

/*
 * Take frames that may be sent, from the first on: what is to be sent in their place is in
 * guard->frames then. Returns how many; 0: the first one may not be sent.
 */
unsigned passt_guard_take(struct passt_guard *guard, const struct net_frame *frames,
                          unsigned nframes) MUST_CHECK;

#endif
