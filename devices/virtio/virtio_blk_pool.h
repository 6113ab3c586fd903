/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of one queue of a virtio-blk device; private to virtio_blk*.c.
 *
 * They are made on demand, with room for as many buffers as one needs, and kept for the next. What
 * a guest made the pool grow to goes back to the host when the queue has been idle for a while: a
 * queue can have 1024 requests of 1024 buffers in flight, which take 16 MiB.
 *
 * All calls on the loop's thread.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_POOL_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/loop.h"
#include "block/block.h"

struct blk_queue;

/* Where the answer to a chain goes. */
struct blk_reply {
    uint16_t head;
    uint8_t *status; /* the last writable byte */
    uint32_t in_len; /* writable bytes, the status included; at least 1 */
};

/*
 * A request in flight. Its buffers are copied here from the scratch chain, because the next chain
 * is popped before this one is done.
 */
struct blk_request {
    struct block_req req;
    struct blk_queue *queue;
    struct blk_request *next; /* in blk_pool.idle */
    struct blk_reply reply;
    uint64_t start_ns; /* when it came */
    unsigned iov_max;
    struct iovec *iov;
};

struct blk_pool {
    struct loop *loop;
    struct blk_request *idle; /* requests not in use */
    struct loop_timer timer;  /* armed while there are any, or were lately */
    bool busy;                /* one came back since it was armed */
};

void blk_pool_init(struct blk_pool *pool, struct loop *loop);

/* A request with room for `niov` buffers; NULL if memory is short. Its `queue` is the caller's. */
struct blk_request *blk_pool_take(struct blk_pool *pool, unsigned niov);

void blk_pool_give(struct blk_pool *pool, struct blk_request *request);

/* Free all that is not in use, and leave no timer behind. */
void blk_pool_empty(struct blk_pool *pool);

#endif
