/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pause of a virtio-blk device; private to virtio_blk*.c.
 *
 * While it is asked for, no request begins. When none is in flight any more and the image is
 * flushed, whoever asked is told: the image on the host then has all that the guest was told is
 * there, and the guest changes nothing until the pause ends. A job of the host (block/job.h) goes
 * on meanwhile: it changes the images, but not what they show. A pause can be ended, and asked for
 * again, at any time, also while it waits for a host that does not answer.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_PAUSE_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_PAUSE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "block/port.h"
#include "devices/virtio/virtio.h"

struct blk_pause {
    struct block_port *port;
    struct loop *loop;
    const char *const *label; /* atomic */
    /* Is no request in flight, and everything that is done shown to the driver? Loop's thread. */
    bool (*is_idle)(struct blk_pause *pause);
    /* Requests may begin, again or as before: the end of a pause was asked for. Loop's thread. */
    void (*ended)(struct blk_pause *pause);

    pthread_mutex_t lock; /* guards what other threads ask for */
    struct virtio_pauser *wanted_by;
    uint64_t wanted_ticket;

    /* Owner: the loop's thread. */
    struct loop_work apply;
    struct virtio_pauser *pauser; /* NULL: requests may begin */
    uint64_t ticket;
    bool told;             /* the pauser */
    bool flushing;         /* `flush` is in flight */
    uint64_t flush_ticket; /* of the pause that it was submitted for */
    struct block_req flush;
    bool closing;
    sem_t closed;
};

/* Fill in port, loop, label, is_idle and ended first. */
void blk_pause_init(struct blk_pause *pause);

/* No request is in flight; waits for the flush. Not on the loop's thread. */
void blk_pause_done(struct blk_pause *pause);

/* Ask for a pause, or with NULL for its end; `ended` sees the ticket. Any thread. */
void blk_pause_ask(struct blk_pause *pause, struct virtio_pauser *pauser, uint64_t ticket);

/* May requests begin? Loop's thread. */
static inline bool blk_pause_is_on(const struct blk_pause *pause)
{
    return pause->pauser != NULL;
}

/* A request is done, and shown to the driver. Loop's thread. */
void blk_pause_check(struct blk_pause *pause);

#endif
