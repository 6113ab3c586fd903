/* SPDX-License-Identifier: Apache-2.0 */
#include "block/stack.h"

#include <errno.h>
#include <string.h>

#include "block/driver.h"

static unsigned chain_len(const struct block *block)
{
    unsigned n = 0;

    for (; block; block = block->backing)
        n++;
    return n;
}

void block_share_memory(struct block *top)
{
    unsigned n = chain_len(top);

    for (struct block *layer = top; layer; layer = layer->backing)
        if (layer->driver->share_memory)
            layer->driver->share_memory(layer, n);
}

int block_begin_writing(struct block *block, struct err *err)
{
    struct block_details details;
    int r;

    block_get_details(block, &details);
    if (details.dirty || details.corrupt)
        return err_set(err, -EUCLEAN,
                       "%s: the image was not closed, or is damaged: it has to be "
                       "checked first",
                       block->path);
    r = file_begin_writing(block->file, block->path, err);
    if (r == 0 && block->data_file)
        r = file_begin_writing(block->data_file, block->data_path, err);
    if (r < 0) {
        file_end_writing(block->file);
        return r;
    }
    block->writable = true;
    return 0;
}

int block_end_writing(struct block *block)
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
    r = block_end_writing(top);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot write back the image", top->path);
    overlay->backing = top;
    block_share_memory(overlay);
    block_hand_over(top, overlay);
    return 0;
}

struct block *block_stack_at(struct block *top, unsigned depth)
{
    while (top && depth-- > 0)
        top = top->backing;
    return top;
}

int block_stack_check_name(const char *name, struct err *err)
{
    if (strlen(name) < BLOCK_NAME_MAX)
        return 0;
    return err_set(err, -EINVAL, "name of a backing file: expected at most %u bytes",
                   BLOCK_NAME_MAX - 1);
}

int block_stack_drop(struct block *top, struct block *overlay, struct block *base, const char *name,
                     struct block **ret_dropped, struct err *err)
{
    int r = block_change_backing(overlay, name, base ? base->driver->name : NULL, err);

    if (r < 0)
        return r;
    overlay->driver->trim(overlay); /* what was read ahead */
    *ret_dropped = block_take_backing(overlay, base);
    block_share_memory(top);
    return 0;
}
