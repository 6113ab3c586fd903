/*
 * What an image says about itself: what is common to the formats.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/block_int.h"

void block_get_details(const struct block *block, struct block_details *ret_details)
{
    *ret_details = (struct block_details){
        .path = block->path,
        .backing_name = block->backing_name,
        .backing_format = block->backing_format,
        .data_name = block->data_name,
        .backing = block->backing,
    };
    if (block->driver->get_details)
        block->driver->get_details(block, ret_details);
}

int block_bitmap_list(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n,
                      struct err *err)
{
    int r;

    *ret_list = NULL;
    *ret_n = 0;
    if (!block->driver->list_bitmaps)
        return 0;
    r = block->driver->list_bitmaps(block, ret_list, ret_n);
    return r < 0 ? err_set_errno(err, r, "%s: cannot read the bitmaps", block->path) : 0;
}

void block_bitmap_list_free(struct block_bitmap *list, unsigned n)
{
    for (unsigned i = 0; list && i < n; i++)
        free(list[i].name);
    free(list);
}
