/*
 * Block status: what is known about a range without reading it, through the chain of backing files.
 */
#include "block/block_int.h"
#include "vmm/base/bytes.h"

int block_get_status(struct block *block, uint64_t off, uint64_t len, bool own_layer,
                     struct block_status *ret_status)
{
    struct block_status status = {.layer = block};
    struct block *layer = block;
    int r;

    for (;;) {
        r = layer->driver->get_status(layer, off, len, &status.flags, &len, &status.host);
        if (r < 0)
            return r;
        if ((status.flags & BLOCK_STATUS_ALLOCATED) || own_layer)
            break;
        if (!layer->backing || off >= layer->backing->len) {
            status.flags = BLOCK_STATUS_ZERO;
            break;
        }
        layer = layer->backing;
        status.layer = layer;
        status.depth++;
        len = min_u64(len, layer->len - off);
    }
    status.len = len;
    *ret_status = status;
    return 0;
}
