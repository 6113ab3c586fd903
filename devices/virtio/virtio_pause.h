/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pause of a device that has nothing in flight between two rounds of its loop: what it took
 * off a ring it answers in the same round, or it can wait as long as the pause does.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_PAUSE_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_PAUSE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/virtio/virtio.h"

struct virtio_pause {
    struct loop *loop;
    /*
     * On the loop's thread: the pause begins (nothing is popped from now on, and what was pushed is
     * published), or ends (look at all rings: kicks may have come meanwhile). Calls may repeat.
     */
    void (*changed)(struct virtio_pause *pause, bool on);

    pthread_mutex_t lock; /* guards what other threads ask for */
    struct virtio_pauser *wanted_by;
    uint64_t wanted_ticket;

    struct loop_work apply;
    bool on; /* owner: the loop's thread */
};

/* Fill in loop and changed first. */
void virtio_pause_init(struct virtio_pause *pause);

/* On the loop's thread, or while it does not run. */
void virtio_pause_done(struct virtio_pause *pause);

/* Ask for a pause, or with NULL for its end. Any thread. */
void virtio_pause_ask(struct virtio_pause *pause, struct virtio_pauser *pauser, uint64_t ticket);

#endif
