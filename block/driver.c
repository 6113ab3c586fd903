/* SPDX-License-Identifier: Apache-2.0 */
#include "block/driver.h"

void block_init(struct block *block, const struct block_driver *driver,
                const struct block_source *source)
{
    block->driver = driver;
    block->file = source->file;
    block->writable = source->writable;
    block->discard = source->discard;
    block->without = source->without;
    block->alone = source->flags & BLOCK_OPEN_ALONE;
    list_init(&block->pending);
    list_init(&block->finished);
    co_queue_init(&block->quiet);
}

void block_compute(struct block *block, void (*fn)(void *opaque), void *opaque)
{
    if (block->aio && block->compute_threads)
        aio_compute(block->aio, fn, opaque);
    else
        fn(opaque);
}
