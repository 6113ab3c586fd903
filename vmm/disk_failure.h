/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failures of a guest's requests, on their way from the I/O thread of a disk to the main loop.
 *
 * Many may come at once, and one is told for those that came since the last: the first that was
 * kept in the latest round, or else the first. Those that are not kept are told once in a second.
 */
#ifndef MINIVMM_DISK_FAILURE_H
#define MINIVMM_DISK_FAILURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/virtio/virtio_blk.h"

struct disk_failures {
    struct loop *loop; /* of the main thread */
    /* On the main loop. */
    void (*tell)(struct disk_failures *failures, const struct virtio_blk_failure *failure);
    struct loop_work work;
    uint64_t told_ns;     /* owner: the main thread; 0: never */
    pthread_mutex_t lock; /* guards the rest */
    bool pending;
    struct virtio_blk_failure failure;
};

void disk_failures_init(struct disk_failures *failures, struct loop *loop,
                        void (*tell)(struct disk_failures *failures,
                                     const struct virtio_blk_failure *failure));

/* Nothing is noted any more. On the main loop's thread. */
void disk_failures_done(struct disk_failures *failures);

/* For virtio_blk_options.failed; `opaque` is a struct disk_failures. Any thread. */
void disk_failures_note(void *opaque, const struct virtio_blk_failure *failure);

#endif
