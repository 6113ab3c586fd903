/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_tx.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"
#include "base/log.h"
#include "devices/virtio/virtio_net_hdr.h"

/* Frames on their way to the back end. */
struct net_tx_batch {
    unsigned nframes;
    unsigned niov;
    uint64_t bytes;
    uint64_t packets;
    uint16_t heads[NET_SEND_MAX];
    struct virtio_net_hdr_v1 hdrs[NET_SEND_MAX]; /* copies: the guest cannot change them any more */
    struct net_frame frames[NET_SEND_MAX];
    struct iovec iov[NET_IOV_MAX];
};

static void empty(struct net_tx_batch *batch)
{
    batch->nframes = 0;
    batch->niov = 0;
    batch->bytes = 0;
    batch->packets = 0;
}

/* ---- gathering frames ------------------------------------------------------------------------ */

/*
 * Put a frame into the batch. 0; -ENOSPC: it has no room for it; -EINVAL: it is none that may be
 * sent.
 */
static int add_frame(struct net_tx_batch *batch, const struct virtq_chain *chain, uint64_t offloads)
{
    struct virtio_net_hdr_v1 *hdr = &batch->hdrs[batch->nframes];
    struct iovec *iov = &batch->iov[batch->niov];
    unsigned room = NET_IOV_MAX - batch->niov;
    uint32_t len;
    int n;

    if (chain->out_len < NET_HDR_LEN + NET_FRAME_MIN ||
        chain->out_len > NET_HDR_LEN + NET_FRAME_MAX)
        return -EINVAL;
    len = (uint32_t)(chain->out_len - NET_HDR_LEN);
    (void)iov_to_buf(chain->iov, chain->nout, 0, hdr, sizeof(*hdr));
    if (!net_hdr_check(hdr, len, offloads))
        return -EINVAL;
    n = room > 0 ? iov_slice(chain->iov, chain->nout, NET_HDR_LEN, len, iov + 1, room - 1) : -E2BIG;
    if (n < 0)
        return batch->nframes > 0 ? -ENOSPC : -EINVAL;

    iov[0] = (struct iovec){.iov_base = hdr, .iov_len = sizeof(*hdr)};
    batch->heads[batch->nframes] = chain->head;
    batch->frames[batch->nframes++] =
        (struct net_frame){.iov = iov, .niov = 1 + (unsigned)n, .len = len};
    batch->niov += 1 + (unsigned)n;
    batch->bytes += len;
    batch->packets += net_hdr_packets(hdr, len);
    return 0;
}

static void drop(struct net_tx *tx, const struct virtq_chain *chain)
{
    log_guest(LOG_DEBUG, "virtio-net: a frame of %u bytes that cannot be sent", chain->out_len);
    net_count(&tx->card->counters->sent.dropped, 1);
    virtq_push(tx->ring->vq, chain->head, 0);
}

/* Must frames wait, after those in the batch? Then the timer is armed. */
static bool must_wait(struct net_tx *tx)
{
    uint64_t wait_ns;

    if (!net_limiter_is_on(&tx->limiter))
        return false;
    wait_ns =
        net_limiter_wait_ns(&tx->limiter, monotonic_ns(), tx->batch->bytes, tx->batch->packets);
    if (wait_ns > 0)
        loop_arm(tx->card->rings.loop, &tx->timer, wait_ns);
    return wait_ns > 0;
}

/*
 * Fill an empty batch from the ring; true: there may be more. A frame that is dropped, or finds no
 * room, is put back if others come before it: those that the back end does not take are put back,
 * too, and the ring gives chains in their order only.
 */
static bool gather(struct net_tx *tx)
{
    struct net_tx_batch *batch = tx->batch;

    while (batch->nframes < NET_SEND_MAX) {
        struct virtq_chain *chain;

        if (must_wait(tx))
            return false;
        chain = virtio_ring_next(tx->ring);
        if (!chain)
            return false;
        if (add_frame(batch, chain, tx->card->offloads) == 0)
            continue;
        if (batch->nframes > 0) {
            virtq_unpop(tx->ring->vq);
            break;
        }
        drop(tx, chain);
    }
    return true;
}

/* ---- sending them ---------------------------------------------------------------------------- */

static unsigned send_frames(struct net_card *card, struct net_tx_batch *batch)
{
    if (card->link_up)
        return card->net->ops->send(card->net, batch->frames, batch->nframes);
    /* As on a card without a cable. */
    for (unsigned i = 0; i < batch->nframes; i++)
        batch->frames[i].dropped = true;
    return batch->nframes;
}

static void account(struct net_tx *tx, unsigned i)
{
    const struct net_frame *frame = &tx->batch->frames[i];
    struct virtio_net_traffic *sent = &tx->card->counters->sent;

    if (frame->dropped) {
        net_count(&sent->dropped, 1);
        return;
    }
    net_count(&sent->frames, 1);
    net_count(&sent->bytes, frame->len);
    if (net_limiter_is_on(&tx->limiter))
        net_limiter_count(&tx->limiter, frame->len,
                          net_hdr_packets(&tx->batch->hdrs[i], frame->len));
}

/* Without a link there is room for everything: it is dropped. */
static bool is_full(const struct net_tx *tx)
{
    return tx->full && tx->card->link_up;
}

/* Send the batch; it is empty then. False: the back end is full. */
static bool flush(struct net_tx *tx)
{
    struct net_tx_batch *batch = tx->batch;
    unsigned taken = batch->nframes > 0 ? send_frames(tx->card, batch) : 0;

    for (unsigned i = 0; i < taken; i++) {
        account(tx, i);
        virtq_push(tx->ring->vq, batch->heads[i], 0);
    }
    for (unsigned i = taken; i < batch->nframes; i++)
        virtq_unpop(tx->ring->vq);
    if (taken < batch->nframes) {
        tx->full = true;
        net_count(&tx->card->counters->full, 1);
    }
    empty(batch);
    return !is_full(tx);
}

/*
 * While frames wait for something, no kick is asked for: one is looked for when the wait is over.
 */
void net_tx_work(struct net_tx *tx)
{
    unsigned nframes = 0;
    bool more = true;

    virtq_disable_kicks(tx->ring->vq);
    while (!is_full(tx) && more) {
        if (nframes >= NET_ROUND_FRAMES) {
            virtio_ring_again(tx->ring);
            return;
        }
        more = gather(tx);
        nframes += tx->batch->nframes;
        if (flush(tx))
            virtio_ring_publish(tx->ring);
    }
}

static void waited(struct loop_timer *timer)
{
    virtio_ring_look(container_of(timer, struct net_tx, timer)->ring);
}

void net_tx_rest(struct net_tx *tx)
{
    loop_disarm(&tx->timer);
}

void net_tx_go_on(struct net_tx *tx)
{
    tx->full = false;
    virtio_ring_look(tx->ring);
}

/* ---- setting up ------------------------------------------------------------------------------ */

int net_tx_init(struct net_tx *tx, struct net_card *card, unsigned index,
                const struct virtio_net_limits *limits)
{
    /* Not cleared: most of its pages are never touched. */
    struct net_tx_batch *batch = malloc(sizeof(*batch));

    if (!batch)
        return -ENOMEM;
    empty(batch);
    *tx = (struct net_tx){
        .card = card,
        .ring = &card->rings.all[index],
        .batch = batch,
        .timer.expired = waited,
    };
    net_limiter_init(&tx->limiter, limits, monotonic_ns());
    return 0;
}

void net_tx_done(struct net_tx *tx)
{
    free(tx->batch);
}
