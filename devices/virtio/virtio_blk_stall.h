/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that failed on the host and are not answered: the VM is to be paused, and they are tried
 * again when it goes on. Private to virtio_blk*.c; all calls on the loop's thread.
 *
 * So a host whose disk is full costs a guest nothing but time.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_STALL_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_STALL_H

#include <stdbool.h>

#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_blk_pool.h"

/* Those of one queue, in the order in which they failed. All zero is none. */
struct blk_stall {
    struct blk_request *first;
    struct blk_request *last;
    unsigned n;
};

/* Is a request that failed with `result` to be kept, if that is the wish for such errors? */
bool blk_stall_wants(enum virtio_blk_on_error on_error, int result);

void blk_stall_add(struct blk_stall *stall, struct blk_request *request);

/* Take the next one out; NULL: there is none. */
struct blk_request *blk_stall_take(struct blk_stall *stall);

#endif
