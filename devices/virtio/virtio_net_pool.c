/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_pool.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"

/* Elements that are used up before those behind them are moved to the front. */
#define MOVE_AFTER 128u

void net_pool_reset(struct net_pool *pool)
{
    pool->nchains = 0;
    pool->first_chain = 0;
    pool->first = 1;
    pool->niov = 0;
    pool->room = 0;
    pool->is_prepared = false;
}

static void move_to_front(struct net_pool *pool)
{
    memmove(&pool->iov[1], &pool->iov[pool->first], pool->niov * sizeof(pool->iov[0]));
    pool->first = 1;
}

bool net_pool_add(struct net_pool *pool, const struct virtq_chain *chain)
{
    if (pool->first > MOVE_AFTER)
        move_to_front(pool);
    if (pool->nchains == NET_POOL_CHAINS ||
        pool->first + pool->niov + chain->nin > ARRAY_SIZE(pool->iov))
        return false;
    memcpy(&pool->iov[pool->first + pool->niov], chain->iov + chain->nout,
           chain->nin * sizeof(pool->iov[0]));
    pool->chains[(pool->first_chain + pool->nchains) % NET_POOL_CHAINS] = (struct net_pool_chain){
        .head = chain->head,
        .niov = (uint16_t)chain->nin,
        .len = chain->in_len,
    };
    pool->nchains++;
    pool->niov += chain->nin;
    pool->room += chain->in_len;
    return true;
}

/* Take the place of the header off the front. */
static void prepare(struct net_pool *pool)
{
    struct iovec *iov = &pool->iov[pool->first];
    size_t left = NET_HDR_LEN;
    int n = iov_slice(iov, pool->niov, 0, NET_HDR_LEN, pool->hdr, ARRAY_SIZE(pool->hdr));

    assert(n > 0); /* no buffer is empty, so the header has as many pieces as bytes at most */
    pool->nhdr = (unsigned)n;
    pool->nskipped = 0;
    while (left >= iov[pool->nskipped].iov_len)
        left -= iov[pool->nskipped++].iov_len;
    iov[pool->nskipped].iov_base = (uint8_t *)iov[pool->nskipped].iov_base + left;
    iov[pool->nskipped].iov_len -= left;
    pool->is_prepared = true;
}

struct iovec *net_pool_vector(struct net_pool *pool, struct virtio_net_hdr_v1 *hdr,
                              unsigned *ret_niov)
{
    struct iovec *vector;

    assert(pool->room > NET_HDR_LEN);
    if (!pool->is_prepared)
        prepare(pool);
    vector = &pool->iov[pool->first + pool->nskipped - 1];
    vector[0] = (struct iovec){.iov_base = hdr, .iov_len = sizeof(*hdr)};
    *ret_niov = (unsigned)min_u64(1 + pool->niov - pool->nskipped, NET_IOV_MAX);
    return vector;
}

void net_pool_push(struct net_pool *pool, struct virtq *vq, struct virtio_net_hdr_v1 *hdr,
                   uint32_t len)
{
    uint64_t left = NET_HDR_LEN + (uint64_t)len;
    uint16_t nchains = 0;

    assert(left <= pool->room);
    while (left > 0) {
        const struct net_pool_chain *chain = &pool->chains[pool->first_chain];
        uint32_t written = (uint32_t)min_u64(left, chain->len);

        virtq_push(vq, chain->head, written);
        left -= written;
        pool->first_chain = (pool->first_chain + 1) % NET_POOL_CHAINS;
        pool->first += chain->niov;
        pool->niov -= chain->niov;
        pool->room -= chain->len;
        nchains++;
    }
    pool->nchains -= nchains;
    hdr->num_buffers = htole16(nchains);
    (void)iov_from_buf(pool->hdr, pool->nhdr, 0, hdr, sizeof(*hdr));
    pool->is_prepared = false;
}
