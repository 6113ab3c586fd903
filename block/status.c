/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is where on a disk: the image is asked first, then its backing files one after the other.
 */
#include "block/status.h"

#include <string.h>

#include "base/bytes.h"
#include "block/driver.h"

bool block_hole_at(struct file *file, uint64_t off, uint64_t *ret_end, uint32_t *ret_beyond)
{
    uint64_t end;
    bool hole = file_hole_at(file, off, &end);

    *ret_beyond = 0;
    *ret_end = end;
    if (end == UINT64_MAX)
        return hole;
    if (hole && align_down(end, BLOCK_SECTOR_SIZE) > off) {
        *ret_end = align_down(end, BLOCK_SECTOR_SIZE);
        return true;
    }
    *ret_end = align_up(end, BLOCK_SECTOR_SIZE);
    if (!hole)
        *ret_beyond = (uint32_t)(*ret_end - end);
    return false;
}

/* What the layers from `block` on say, without `end` and those below it; NULL: all. */
static int ask_layers(struct block *block, const struct block *end, uint64_t off, uint64_t len,
                      struct block_status *ret_status)
{
    struct block_status status = {.layer = block};
    struct block *layer = block;
    int r;

    for (;;) {
        r = layer->driver->get_status(layer, off, len, &status);
        if (r < 0)
            return r;
        len = status.len;
        if (status.flags & BLOCK_STATUS_ALLOCATED)
            break;
        if (!layer->backing || off >= layer->backing->len) {
            status.flags |= BLOCK_STATUS_ZERO;
            break;
        }
        layer = layer->backing;
        status.layer = layer;
        status.depth++;
        len = min_u64(len, layer->len - off);
        if (layer == end) {
            status.flags = 0;
            status.len = len;
            break;
        }
    }
    *ret_status = status;
    return 0;
}

int block_get_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                     struct block_status *ret_status)
{
    if (!own_layer)
        return ask_layers(block, NULL, off, len, ret_status);
    *ret_status = (struct block_status){.layer = block};
    return block->driver->get_status(block, off, len, ret_status);
}

int block_get_status_above(struct block *block, const struct block *base, uint64_t off,
                           uint64_t len, struct block_status *ret_status)
{
    return ask_layers(block, base, off, len, ret_status);
}

/* If the metadata cannot be read, the answer is that there are no holes. */
static bool has_holes(struct block *layer)
{
    bool holes = false;

    if (!layer->holes_known) {
        layer->has_holes =
            layer->driver->has_holes && layer->driver->has_holes(layer, &holes) == 0 && holes;
        layer->holes_known = true;
    }
    return layer->has_holes;
}

int block_get_host_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                          struct block_status *ret_status)
{
    const unsigned in_place = BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET;
    struct block *layer;
    uint32_t beyond;
    uint64_t end;
    int r = block_get_status(block, off, len, own_layer, ret_status);

    if (r < 0 || (ret_status->flags & in_place) != in_place)
        return r;
    layer = ret_status->layer;
    if (!has_holes(layer))
        return 0;
    if (block_hole_at(layer->data_file ? layer->data_file : layer->file, ret_status->host, &end,
                      &beyond))
        ret_status->flags |= BLOCK_STATUS_ZERO;
    if (ret_status->len >= end - ret_status->host) {
        ret_status->len = end - ret_status->host;
        ret_status->beyond = beyond;
    }
    return 0;
}

bool block_is_same_layer(const struct block *a, const struct block *b)
{
    return a->driver == b->driver && file_is_same(a->file, b->file);
}
