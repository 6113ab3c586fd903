/* SPDX-License-Identifier: Apache-2.0 */
#include "block/live.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/driver.h"

struct live {
    struct block *block;
    void (*fn)(void *opaque);
    void *opaque;
};

static void run(void *opaque)
{
    struct live live = *(struct live *)opaque;

    free(opaque);
    live.fn(live.opaque);
    live.block->nlive--;
}

int block_live_start(struct block *block, void (*fn)(void *opaque), void *opaque)
{
    struct live *live = malloc(sizeof(*live));
    int r;

    assert(block->loop && block->nlive == 0);
    if (!live)
        return -ENOMEM;
    *live = (struct live){block, fn, opaque};
    r = co_start(aio_sched(block->aio), run, live);
    if (r < 0)
        free(live);
    else
        block->nlive++;
    return r;
}
