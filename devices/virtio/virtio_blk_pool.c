/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk_pool.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/idle_memory.h"

/* Smallest room for buffers of a request: what a typical one of up to 64 KiB needs. */
#define IOV_MIN 16u

/* Requests that nobody used for this long, or up to twice as long, are freed. */
#define IDLE_NS 2000000000ull

static void free_request(struct blk_request *request)
{
    free(request->iov);
    free(request);
}

static void free_idle(struct blk_pool *pool)
{
    struct blk_request *request;

    while ((request = pool->idle)) {
        pool->idle = request->next;
        free_request(request);
    }
}

/* Armed again by the first request that comes back after this: an idle queue has no timer. */
static void expired(struct loop_timer *timer)
{
    struct blk_pool *pool = container_of(timer, struct blk_pool, timer);

    if (pool->busy) {
        pool->busy = false;
        loop_arm(pool->loop, timer, IDLE_NS);
        return;
    }
    free_idle(pool);
    idle_memory_work_ends();
}

void blk_pool_init(struct blk_pool *pool, struct loop *loop)
{
    *pool = (struct blk_pool){.loop = loop, .timer.expired = expired};
}

struct blk_request *blk_pool_take(struct blk_pool *pool, unsigned niov)
{
    struct blk_request *request = pool->idle;

    if (request) {
        pool->idle = request->next;
    } else {
        request = calloc(1, sizeof(*request));
        if (!request)
            return NULL;
    }
    if (niov > request->iov_max) {
        unsigned iov_max = (unsigned)max_u64(niov, IOV_MIN);

        free(request->iov);
        request->iov_max = 0;
        request->iov = calloc(iov_max, sizeof(*request->iov));
        if (!request->iov) {
            free_request(request);
            return NULL;
        }
        request->iov_max = iov_max;
    }
    return request;
}

void blk_pool_give(struct blk_pool *pool, struct blk_request *request)
{
    request->next = pool->idle;
    pool->idle = request;
    pool->busy = true;
    if (pool->timer.loop)
        return;
    idle_memory_work_begins();
    loop_arm(pool->loop, &pool->timer, IDLE_NS);
}

void blk_pool_empty(struct blk_pool *pool)
{
    if (pool->timer.loop)
        idle_memory_work_leaves();
    loop_disarm(&pool->timer);
    free_idle(pool);
}
