/*
 * What an image says about itself: what is common to the formats.
 */
#include <errno.h>
#include <string.h>

#include "block/driver.h"

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

int block_get_luks(struct block *block, struct luks *ret_luks, struct err *err)
{
    uint8_t header[LUKS_HEADER_LEN] = {0};
    struct block_details details;
    int r;

    block_get_details(block, &details);
    r = file_read(block->file, details.luks_off, header, sizeof(header));
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read the LUKS header", block->path);
    if (details.luks_off == 0 || luks_parse(header, ret_luks) < 0)
        return err_set(err, -EINVAL, "%s: no LUKS header (version 1) at offset %llu", block->path,
                       (unsigned long long)details.luks_off);
    return 0;
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
