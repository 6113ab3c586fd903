/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of a device that keeps no chain: what it pops it pushes in the same round of its loop.
 * Between two rounds nothing is in flight, so that queues can be stopped and the device paused at
 * once, whatever it waits for.
 *
 * The device provides `work`, which looks at one ring on the loop's thread:
 *
 *     while ((chain = virtio_ring_next(ring)))
 *         … virtq_push(ring->vq, chain->head, written) …
 *
 * It may stop before the ring is empty, and have the ring looked at again later. A driver that
 * refills its ring for ever, or whose chains are as long as they can be, does not keep the loop
 * from other work: after some tenths of a millisecond virtio_ring_next finds nothing, and the ring
 * is looked at again in the next round.
 *
 * A driver that breaks the rules of the ring is told to reset the device, and no ring is looked at
 * until it has done so.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_RINGS_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_RINGS_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_pause.h"

struct virtio_rings;

/* Owner: the loop's thread; the vCPU while it starts and stops the queue. */
struct virtio_ring {
    struct virtio_rings *rings;
    struct virtq *vq;
    unsigned index;
    struct loop_fd kick;
    struct loop_work again;
    bool lent;
    unsigned ndescs; /* descriptors that were looked at in this round */
};

/* Atomic; the loop's thread writes. */
struct virtio_ring_counters {
    uint64_t kicks; /* the driver told of something */
    uint64_t interrupts;
};

/* Embedded in the device. */
struct virtio_rings {
    struct virtio_dev dev;
    struct loop *loop;
    struct virtio_ring_counters *counters; /* not owned; NULL: nobody wants to know */
    /* Look at a ring: kicked, just started, the pause is over, or it was asked for. */
    void (*work)(struct virtio_ring *ring);
    /*
     * It is not looked at for a while: the ring is stopped, a pause begins, or the driver broke a
     * rule, on this ring or another one; the latter also inside `work`. May be NULL.
     */
    void (*rest)(struct virtio_ring *ring);
    /* A pause is over, before any ring is looked at. May be NULL. */
    void (*resumed)(struct virtio_rings *rings);

    /* Owner: the loop's thread. */
    struct virtio_ring *all; /* dev.nqueues of them */
    struct virtq_chain *chain;
    struct virtio_pause pause;
    bool broken;
};

/* Fill in loop and what is called first; it makes the device's common part, too. 0 or -errno. */
int virtio_rings_init(struct virtio_rings *rings, const struct virtio_ops *ops,
                      const struct guest_mem *mem, unsigned nqueues) MUST_CHECK;

/* The common part, too. All queues are stopped. Not on the loop's thread. */
void virtio_rings_done(struct virtio_rings *rings);

/* The device's virtio_ops of these names, or what they call. */
void virtio_rings_features_ok(struct virtio_dev *dev);
int virtio_rings_queue_start(struct virtio_dev *dev, unsigned queue) MUST_CHECK;
void virtio_rings_queue_stop(struct virtio_dev *dev, unsigned queue);
void virtio_rings_pause(struct virtio_dev *dev, struct virtio_pauser *pauser, uint64_t ticket);
void virtio_rings_resume(struct virtio_dev *dev);

/* ---- the loop's thread ----------------------------------------------------------------------- */

static inline bool virtio_ring_is_started(const struct virtio_ring *ring)
{
    return ring->kick.loop != NULL;
}

/*
 * Can the ring be looked at? It was started, the driver obeys, the device is not paused, and nobody
 * else works on the ring.
 */
bool virtio_ring_runs(const struct virtio_ring *ring);

/*
 * Take the next chain; NULL: there is none. Then a kick will tell of the next, or the ring is
 * looked at again by itself. The chain is valid until the next call.
 */
struct virtq_chain *virtio_ring_next(struct virtio_ring *ring);

/* Look at the ring in the next round, if it runs. */
void virtio_ring_again(struct virtio_ring *ring);

/* Look at it now, if it runs, because of something else than a kick. */
void virtio_ring_look(struct virtio_ring *ring);

/*
 * Show the driver what was pushed, and interrupt it if it wants that. It is done whenever `work`
 * returns; for what is pushed at other times, or is to be seen sooner. The ring is started.
 */
void virtio_ring_publish(struct virtio_ring *ring);

/*
 * Let somebody else work on a ring that runs, from ring->vq->next_avail on; nothing of it is in
 * flight. Until it is taken back it does not run here. 0, or -errno: then it is not lent.
 */
int virtio_ring_lend(struct virtio_ring *ring) MUST_CHECK;

/*
 * Go on at `position`: the chains before it were used, in their order. What was offered meanwhile
 * is looked at in the next round. Also for a ring that was stopped.
 */
void virtio_ring_take_back(struct virtio_ring *ring, uint16_t position);

/*
 * The driver broke a rule: tell it to reset the device; no ring is looked at until then (2.1.2), by
 * whom it was lent to neither.
 */
void virtio_rings_break(struct virtio_rings *rings);

#endif
