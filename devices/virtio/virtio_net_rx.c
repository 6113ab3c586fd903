/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_rx.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"
#include "base/log.h"
#include "devices/virtio/virtio_net_hdr.h"
#include "devices/virtio/virtio_net_pool.h"

#define MTU_DEFAULT 1500u
#define VLAN_TAG_LEN 4u

/*
 * The driver sees the first frame of a round at once, for it may be the only one, and the others
 * after so many bytes: it works on them while more come, and can refill its ring.
 */
#define PUBLISH_AFTER (64 * KIB)

static bool is_merging(const struct net_card *card)
{
    return net_card_has(card, VIRTIO_NET_F_MRG_RXBUF);
}

/* What the largest frame that may come takes (5.1.6.3.1). */
static uint32_t largest_frame(const struct net_card *card)
{
    const uint64_t cut_later =
        VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6);
    uint64_t mtu = max_u64(card->net->mtu, MTU_DEFAULT);
    uint64_t len = card->offloads & cut_later ? NET_FRAME_MAX : mtu + NET_FRAME_MIN + VLAN_TAG_LEN;

    return (uint32_t)(NET_HDR_LEN + min_u64(len, NET_FRAME_MAX));
}

/* ---- buffers --------------------------------------------------------------------------------- */

/* Could a frame be in the chain, or part of one? */
static bool is_usable(const struct net_card *card, const struct virtq_chain *chain)
{
    const uint32_t least = is_merging(card) ? NET_HDR_LEN : NET_HDR_LEN + NET_FRAME_MIN;

    if (chain->nout == 0 && chain->in_len >= least)
        return true;
    log_guest(LOG_WARN, "virtio-net: buffer for frames of %u readable and %u writable bytes",
              chain->out_len, chain->in_len);
    return false;
}

/*
 * The driver has no more buffers for now. That is no reason to wait if it cannot have many more:
 * half of its descriptors are in the pool, and it may use two for each buffer.
 */
static bool has_all(const struct net_rx *rx)
{
    return rx->pool->room >= NET_HDR_LEN + NET_FRAME_MIN &&
           2 * rx->pool->nchains >= rx->ring->vq->size;
}

/* Have buffers for the largest frame. */
static bool fill(struct net_rx *rx)
{
    struct net_card *card = rx->card;
    const uint32_t wanted = is_merging(card) ? largest_frame(card) : 1; /* or the first buffer */

    while (rx->pool->room < wanted) {
        struct virtq_chain *chain = virtio_ring_next(rx->ring);

        if (!chain)
            return virtio_ring_runs(rx->ring) && has_all(rx);
        if (!is_usable(card, chain)) {
            virtio_rings_break(&card->rings);
            return false;
        }
        if (!net_pool_add(rx->pool, chain)) {
            virtq_unpop(rx->ring->vq);
            return true;
        }
    }
    return true;
}

/* The same; a kick tells when there are more if there are none now. */
static bool find_room(struct net_rx *rx)
{
    bool had_room = rx->has_room;

    rx->has_room = fill(rx);
    if (had_room && !rx->has_room)
        net_count(&rx->card->counters->starved, 1);
    return rx->has_room;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Must frames wait for the limits? Then the timer is armed. */
static bool must_wait(struct net_rx *rx)
{
    uint64_t wait_ns;

    if (!net_limiter_is_on(&rx->limiter))
        return false;
    wait_ns = net_limiter_wait_ns(&rx->limiter, monotonic_ns(), 0, 0);
    if (wait_ns > 0)
        loop_arm(rx->card->rings.loop, &rx->timer, wait_ns);
    return wait_ns > 0;
}

static bool is_for_guest(const struct net_card *card, const struct iovec *iov, unsigned niov)
{
    struct mac destination;

    if (card->net->is_filtered || !net_card_has(card, VIRTIO_NET_F_CTRL_RX))
        return true;
    (void)iov_to_buf(iov, niov, NET_HDR_LEN, &destination, sizeof(destination));
    return net_filter_passes(&card->filter, &destination);
}

/* Take a frame into buffers that are there. Returns its length; 0: there is none, or no longer. */
static uint32_t take_frame(struct net_rx *rx)
{
    struct net_card *card = rx->card;
    struct virtio_net_counters *counters = card->counters;
    struct virtio_net_hdr_v1 hdr = {0};
    unsigned niov;
    struct iovec *iov = net_pool_vector(rx->pool, &hdr, &niov);
    ssize_t len = card->net->ops->receive(card->net, iov, niov);

    if (len == 0)
        return 0;
    if (len < 0) {
        net_count(&counters->received.dropped, 1);
        return NET_FRAME_MIN;
    }
    assert(len >= NET_FRAME_MIN && len <= NET_FRAME_MAX);
    if (!is_for_guest(card, iov, niov)) {
        net_count(&counters->filtered, 1);
        return NET_FRAME_MIN;
    }
    net_count(&counters->received.frames, 1);
    net_count(&counters->received.bytes, (uint64_t)len);
    if (net_limiter_is_on(&rx->limiter))
        net_limiter_count(&rx->limiter, (uint64_t)len, net_hdr_packets(&hdr, (uint32_t)len));
    net_pool_push(rx->pool, rx->ring->vq, &hdr, (uint32_t)len);
    return (uint32_t)len;
}

/*
 * Take what the back end has. Frames that are still there when the round ends are told of in the
 * next one.
 */
void net_rx_readable(struct net_rx *rx)
{
    uint64_t unpublished = 0;

    rx->ring->ndescs = 0; /* a round begins */
    for (unsigned n = 0; n < NET_ROUND_FRAMES; n++) {
        uint32_t len;

        if (!virtio_ring_runs(rx->ring) || must_wait(rx) || !find_room(rx)) {
            net_rx_update(rx);
            break;
        }
        len = take_frame(rx);
        if (len == 0)
            break;
        unpublished += len;
        if (n == 0 || unpublished >= PUBLISH_AFTER) {
            virtio_ring_publish(rx->ring);
            unpublished = 0;
        }
    }
    if (unpublished > 0)
        virtio_ring_publish(rx->ring);
}

void net_rx_update(struct net_rx *rx)
{
    bool want = virtio_ring_runs(rx->ring) && rx->card->link_up && rx->has_room && !rx->timer.loop;

    if (want == rx->is_watching)
        return;
    rx->is_watching = want;
    rx->card->net->ops->watch(rx->card->net, want);
}

void net_rx_work(struct net_rx *rx)
{
    (void)find_room(rx);
    net_rx_update(rx);
}

void net_rx_rest(struct net_rx *rx)
{
    loop_disarm(&rx->timer);
    net_rx_update(rx);
}

void net_rx_give_up(struct net_rx *rx)
{
    for (unsigned i = 0; i < rx->pool->nchains; i++)
        virtq_unpop(rx->ring->vq);
    net_pool_reset(rx->pool);
    rx->has_room = false;
    net_rx_update(rx);
}

static void waited(struct loop_timer *timer)
{
    net_rx_update(container_of(timer, struct net_rx, timer));
}

/* ---- setting up ------------------------------------------------------------------------------ */

int net_rx_init(struct net_rx *rx, struct net_card *card, unsigned index,
                const struct virtio_net_limits *limits)
{
    /* Not cleared: most of its pages are never touched. */
    struct net_pool *pool = malloc(sizeof(*pool));

    if (!pool)
        return -ENOMEM;
    net_pool_reset(pool);
    *rx = (struct net_rx){
        .card = card,
        .ring = &card->rings.all[index],
        .pool = pool,
        .timer.expired = waited,
    };
    net_limiter_init(&rx->limiter, limits, monotonic_ns());
    return 0;
}

void net_rx_begin(struct net_rx *rx)
{
    struct net_card *card = rx->card;

    net_pool_reset(rx->pool);
    rx->has_room = false;
    /* It may have put a part of a frame into buffers from before: that is over (net/net.h). */
    (void)card->net->ops->set_offloads(card->net, card->offloads); /* they were agreed to before */
}

void net_rx_done(struct net_rx *rx)
{
    free(rx->pool);
}
