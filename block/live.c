/* SPDX-License-Identifier: Apache-2.0 */
#include "block/live.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/driver.h"

struct operation {
    struct block_live live;
    void (*fn)(void *opaque);
    void *opaque;
};

static void run(void *opaque)
{
    struct operation *operation = opaque;

    operation->fn(operation->opaque);
    operation->live.block->live = NULL; /* another image may have the requests now */
    free(operation);
}

int block_live_start(struct block *block, void (*fn)(void *opaque), void *opaque)
{
    struct operation *operation = malloc(sizeof(*operation));
    int r;

    assert(block->loop && !block->live);
    if (!operation)
        return -ENOMEM;
    *operation = (struct operation){.live.block = block, .fn = fn, .opaque = opaque};
    r = co_start(aio_sched(block->aio), run, operation);
    if (r < 0)
        free(operation);
    else
        block->live = &operation->live;
    return r;
}

bool block_live_wait(struct block *block)
{
    if (!block->live)
        return false;
    aio_wait(block->aio);
    return true;
}

void block_live_elsewhere(struct block *block, void (*fn)(void *opaque), void *opaque)
{
    aio_compute(block->aio, fn, opaque);
}
