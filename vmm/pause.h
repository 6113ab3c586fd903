/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pauses of a machine: vCPUs out of the guest, its time standing still, its devices at rest.
 *
 *     main thread                     others
 *     pause_begin: hold the gate ───> vCPUs leave the guest, each in its own time
 *     stop the clock, ask devices <── the last one is outside
 *                                ───> I/O threads end what is in flight, and flush
 *     `paused`                   <─── the last one rests
 *     pause_end: devices go on, start the clock, release the gate
 *
 * Nothing waits: a disk that does not answer delays `paused`, and a pause can be ended at any time.
 * All calls on the main loop's thread.
 */
#ifndef MINIVMM_PAUSE_H
#define MINIVMM_PAUSE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/virtio/virtio.h"
#include "vmm/gate.h"

enum pause_state {
    PAUSE_NONE,
    PAUSE_CLEARING, /* vCPUs may be in the guest */
    PAUSE_DRAINING, /* devices may have requests in flight */
    PAUSE_DONE,
};

struct pause {
    struct gate *gate; /* whose `cleared` is to call pause_cleared */
    struct loop *loop; /* of the main thread */
    /* Guest time stands still, and goes on from where it stood. While no vCPU is in the guest. */
    void (*stop_clock)(struct pause *pause);
    void (*start_clock)(struct pause *pause);
    void (*paused)(struct pause *pause);

    enum pause_state state;
    bool over; /* the guest has ended */
    struct virtio_dev **devs;
    size_t ndevs;
    struct loop_work cleared;
    struct loop_work drained;

    struct virtio_pauser pauser;
    pthread_mutex_t lock; /* guards the rest: devices report on their threads */
    uint64_t ticket;      /* of the newest pause; what devices say of others is old */
    size_t nresting;
};

/* Fill in what comes before `state`. 0 or -ENOMEM: `max_devs` devices can be added. */
int pause_init(struct pause *pause, size_t max_devs) MUST_CHECK;

/* Devices are freed already, and no vCPU runs. Harmless on a pause that is all zero. */
void pause_done(struct pause *pause);

void pause_add_device(struct pause *pause, struct virtio_dev *dev);

/* Once between two calls of pause_end; `paused` follows, later, unless pause_end comes first. */
void pause_begin(struct pause *pause);
void pause_end(struct pause *pause);

/*
 * The guest has ended: devices are not asked to rest any more, and `paused` does not follow.
 * Neither pause_begin nor pause_end comes after it.
 */
void pause_give_up(struct pause *pause);

static inline bool pause_is_wanted(const struct pause *pause)
{
    return pause->state != PAUSE_NONE;
}

/* For gate.cleared: any thread, with the gate's lock held. */
void pause_cleared(struct pause *pause);

#endif
