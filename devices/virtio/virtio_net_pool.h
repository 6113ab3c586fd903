/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers of a guest that wait for a frame: chains that were popped, in their order, kept in a
 * compact form. Private to virtio_net*.c. One thread.
 *
 * A frame fills the first of them, or several (VIRTIO_NET_F_MRG_RXBUF); its header, 12 bytes, comes
 * first and may be spread over buffers (virtio 1.2, 2.7.4.1).
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_POOL_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "devices/virtio/virtq.h"
#include "net/net.h"

/* Enough for the largest frame in buffers of 260 bytes; drivers make them six times as long. */
#define NET_POOL_CHAINS 256u

struct net_pool_chain {
    uint16_t head;
    uint16_t niov;
    uint32_t len;
};

struct net_pool {
    unsigned nchains;
    unsigned first_chain; /* of `chains`, which is a ring */
    unsigned first;       /* of `iov`, at least 1; element first - 1 is free */
    unsigned niov;
    uint64_t room; /* bytes in all */

    /* The front is prepared for a frame: the place of its header is kept here and taken off it. */
    bool is_prepared;
    unsigned nskipped; /* elements that only have bytes of the header */
    unsigned nhdr;
    struct iovec hdr[NET_HDR_LEN];

    struct net_pool_chain chains[NET_POOL_CHAINS];
    struct iovec iov[1 + 2 * VIRTQ_CHAIN_MAX];
};

/* Empty; only a little of it is touched. */
void net_pool_reset(struct net_pool *pool);

/* Add a chain at the end. False: there is no room; there is always room for one. */
bool net_pool_add(struct net_pool *pool, const struct virtq_chain *chain) MUST_CHECK;

/*
 * Where the next frame goes: a vector whose first element is `hdr`. It holds until the next call.
 * There is room for a header and more.
 */
struct iovec *net_pool_vector(struct net_pool *pool, struct virtio_net_hdr_v1 *hdr,
                              unsigned *ret_niov);

/*
 * A frame of `len` bytes, without the header, is in the vector: push its chains, as many as it
 * fills. `hdr` is stored before it, with their number.
 */
void net_pool_push(struct net_pool *pool, struct virtq *vq, struct virtio_net_hdr_v1 *hdr,
                   uint32_t len);

#endif
