/*
 * What an image says about itself: what is common to the formats.
 */
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
