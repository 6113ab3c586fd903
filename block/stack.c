/* SPDX-License-Identifier: Apache-2.0 */
#include "block/stack.h"

#include <errno.h>

#include "block/driver.h"

static unsigned chain_len(const struct block *block)
{
    unsigned n = 0;

    for (; block; block = block->backing)
        n++;
    return n;
}

static void share_memory(struct block *top)
{
    unsigned n = chain_len(top);

    for (struct block *layer = top; layer; layer = layer->backing)
        if (layer->driver->share_memory)
            layer->driver->share_memory(layer, n);
}

/* Leave the image as if it had been closed, and then opened for reading. */
static int end_writing(struct block *block)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = block_execute(block, &flush);

    if (r == 0 && block->driver->close)
        r = block->driver->close(block);
    if (r < 0)
        return r;
    block->writable = false;
    block->written = false;
    file_end_writing(block->file);
    if (block->data_file)
        file_end_writing(block->data_file);
    return 0;
}

int block_stack_put(struct block *top, struct block *overlay, struct err *err)
{
    int r;

    if (overlay->len != top->len || !overlay->writable || overlay->backing)
        return err_set(err, -EINVAL, "%s: %llu bytes: expected an empty image of %llu bytes",
                       overlay->path, (unsigned long long)overlay->len,
                       (unsigned long long)top->len);
    if (chain_len(top) >= BLOCK_CHAIN_MAX)
        return err_set(err, -ELOOP, "more than %u images on top of each other", BLOCK_CHAIN_MAX);
    r = end_writing(top);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot write back the image", top->path);
    overlay->backing = top;
    share_memory(overlay);
    block_hand_over(top, overlay);
    return 0;
}
