/*
 * What an image says about itself: what is common to the formats.
 */
#include <string.h>

#include "block/block_int.h"

void block_get_details(const struct block *block, struct block_details *ret_details)
{
    *ret_details = (struct block_details){
        .path = block->path,
        .backing_name = block->backing_name,
        .backing_format = block->backing_format,
        .data_name = block->data_name,
        .data_path = block->data_path,
        .part_off = block->file->part.off,
        .backing = block->backing,
    };
    if (block->driver->get_details)
        block->driver->get_details(block, ret_details);
}

static bool is_file(const struct file *file, const uint64_t id[2])
{
    return file && memcmp(file->id, id, sizeof(file->id)) == 0;
}

bool block_uses_file(const struct block *block, const uint64_t id[2])
{
    for (; block; block = block->backing)
        if (is_file(block->file, id) || is_file(block->data_file, id))
            return true;
    return false;
}
