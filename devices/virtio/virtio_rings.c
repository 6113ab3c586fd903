/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_rings.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"

/*
 * Descriptors of a ring that are looked at in a round of the loop: so many take some tenths of a
 * millisecond.
 */
#define ROUND_DESCS 4096u

/* Each kick is told of once, so that nobody needs to read the eventfd. */
#define KICK_EVENTS (EPOLLIN | EPOLLET)

/* ---- the loop's thread ----------------------------------------------------------------------- */

bool virtio_ring_runs(const struct virtio_ring *ring)
{
    return virtio_ring_is_started(ring) && !ring->lent && !ring->rings->broken &&
           !ring->rings->pause.on;
}

struct virtq_chain *virtio_ring_next(struct virtio_ring *ring)
{
    struct virtio_rings *rings = ring->rings;
    int r;

    if (!virtio_ring_runs(ring))
        return NULL;
    if (ring->ndescs >= ROUND_DESCS) {
        virtio_ring_again(ring);
        return NULL;
    }
    do {
        virtq_disable_kicks(ring->vq);
        r = virtq_pop(ring->vq, rings->chain);
    } while (r == 0 && virtq_enable_kicks(ring->vq));

    if (r > 0) {
        ring->ndescs += rings->chain->ndescs;
        return rings->chain;
    }
    if (r < 0)
        virtio_rings_break(rings);
    return NULL;
}

void virtio_rings_break(struct virtio_rings *rings)
{
    rings->broken = true;
    rings->dev.transport->needs_reset(rings->dev.transport);
    for (unsigned i = 0; i < rings->dev.nqueues; i++)
        if (rings->rest && virtio_ring_is_started(&rings->all[i]))
            rings->rest(&rings->all[i]);
}

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

void virtio_ring_publish(struct virtio_ring *ring)
{
    struct virtio_rings *rings = ring->rings;

    if (!virtq_publish(ring->vq))
        return;
    if (rings->counters)
        count(&rings->counters->interrupts);
    rings->dev.transport->notify_used(rings->dev.transport, ring->index);
}

void virtio_ring_look(struct virtio_ring *ring)
{
    if (!virtio_ring_runs(ring))
        return;
    ring->ndescs = 0;
    ring->rings->work(ring);
    virtio_ring_publish(ring);
}

static void look_again(struct loop_work *work)
{
    virtio_ring_look(container_of(work, struct virtio_ring, again));
}

static void kicked(struct loop_fd *watch, uint32_t events)
{
    struct virtio_ring *ring = container_of(watch, struct virtio_ring, kick);

    if (ring->rings->counters)
        count(&ring->rings->counters->kicks);
    virtio_ring_look(ring);
}

void virtio_ring_again(struct virtio_ring *ring)
{
    if (virtio_ring_is_started(ring))
        loop_post(ring->rings->loop, &ring->again);
}

int virtio_ring_lend(struct virtio_ring *ring)
{
    int r = loop_set_events(&ring->kick, 0);

    ring->lent = r == 0;
    return r;
}

void virtio_ring_take_back(struct virtio_ring *ring, uint16_t position)
{
    ring->lent = false;
    virtq_go_on_at(ring->vq, position);
    if (!virtio_ring_is_started(ring))
        ring->kick.events = KICK_EVENTS; /* for the next start */
    else if (loop_set_events(&ring->kick, KICK_EVENTS) < 0)
        virtio_rings_break(ring->rings);
    virtio_ring_again(ring);
}

/* Kicks that came meanwhile were not looked at. */
static void pause_changed(struct virtio_pause *pause, bool on)
{
    struct virtio_rings *rings = container_of(pause, struct virtio_rings, pause);

    if (!on && rings->resumed)
        rings->resumed(rings);
    for (unsigned i = 0; i < rings->dev.nqueues; i++) {
        if (!on)
            virtio_ring_again(&rings->all[i]);
        else if (rings->rest)
            rings->rest(&rings->all[i]);
    }
}

/* ---- vCPU threads, under the transport's lock; the main thread ------------------------------- */

static struct virtio_rings *rings_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_rings, dev);
}

void virtio_rings_features_ok(struct virtio_dev *dev)
{
    rings_of(dev)->broken = false; /* no queue runs: nobody else looks */
}

struct start_call {
    struct virtio_ring *ring;
    int result;
};

static void start_on_loop(void *opaque)
{
    struct start_call *call = opaque;
    struct virtio_ring *ring = call->ring;

    virtq_start(ring->vq, ring->rings->dev.features);
    call->result = loop_add_fd(ring->rings->loop, &ring->kick);
    /* The driver may have filled the ring before DRIVER_OK and need not kick again (3.1.1). */
    if (call->result == 0)
        virtio_ring_again(ring);
}

int virtio_rings_queue_start(struct virtio_dev *dev, unsigned queue)
{
    struct virtio_rings *rings = rings_of(dev);
    struct start_call call = {.ring = &rings->all[queue]};

    loop_call(rings->loop, start_on_loop, &call);
    return call.result;
}

static void stop_on_loop(void *opaque)
{
    struct virtio_ring *ring = opaque;
    struct virtio_rings *rings = ring->rings;

    loop_remove_fd(&ring->kick);
    loop_cancel(rings->loop, &ring->again);
    if (rings->rest)
        rings->rest(ring);
}

void virtio_rings_queue_stop(struct virtio_dev *dev, unsigned queue)
{
    struct virtio_rings *rings = rings_of(dev);

    loop_call(rings->loop, stop_on_loop, &rings->all[queue]);
}

void virtio_rings_pause(struct virtio_dev *dev, struct virtio_pauser *pauser, uint64_t ticket)
{
    virtio_pause_ask(&rings_of(dev)->pause, pauser, ticket);
}

void virtio_rings_resume(struct virtio_dev *dev)
{
    virtio_pause_ask(&rings_of(dev)->pause, NULL, 0);
}

/* ---- setting up ------------------------------------------------------------------------------ */

static void init_ring(struct virtio_rings *rings, unsigned index)
{
    rings->all[index] = (struct virtio_ring){
        .rings = rings,
        .vq = &rings->dev.queues[index],
        .index = index,
        .kick =
            {
                .fd = rings->dev.kick_fds[index],
                .events = KICK_EVENTS,
                .ready = kicked,
            },
        .again = {.run = look_again},
    };
}

static void free_memory(struct virtio_rings *rings)
{
    free(rings->chain);
    free(rings->all);
}

int virtio_rings_init(struct virtio_rings *rings, const struct virtio_ops *ops,
                      const struct guest_mem *mem, unsigned nqueues)
{
    int r = -ENOMEM;

    rings->all = calloc(nqueues, sizeof(rings->all[0]));
    /* Not cleared: of its room for the longest chain, most pages are never touched. */
    rings->chain = malloc(sizeof(*rings->chain));
    if (rings->all && rings->chain)
        r = virtio_dev_init(&rings->dev, ops, mem, nqueues);
    if (r < 0) {
        free_memory(rings);
        return r;
    }
    for (unsigned i = 0; i < nqueues; i++)
        init_ring(rings, i);
    rings->broken = false;
    rings->pause.loop = rings->loop;
    rings->pause.changed = pause_changed;
    virtio_pause_init(&rings->pause);
    return 0;
}

static void leave_loop(void *opaque)
{
    struct virtio_rings *rings = opaque;

    virtio_pause_done(&rings->pause);
}

void virtio_rings_done(struct virtio_rings *rings)
{
    loop_call(rings->loop, leave_loop, rings);
    virtio_dev_done(&rings->dev);
    free_memory(rings);
}
