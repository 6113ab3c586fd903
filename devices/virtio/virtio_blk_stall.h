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

struct blk_stall {
    enum virtio_blk_on_error on_write_error;
    enum virtio_blk_on_error on_read_error;
    struct blk_request *first; /* in the order in which they failed */
    struct blk_request *last;
};

/* Is a request that failed with `result` to be kept? */
bool blk_stall_wants(const struct blk_stall *stall, const struct block_req *req, int result);

void blk_stall_add(struct blk_stall *stall, struct blk_request *request);

/* Take the next one out: of `queue`, or with NULL of any. NULL: there is none. */
struct blk_request *blk_stall_take(struct blk_stall *stall, const struct blk_queue *queue);

/* Of `queue`. */
unsigned blk_stall_count(const struct blk_stall *stall, const struct blk_queue *queue);

#endif
