/* SPDX-License-Identifier: Apache-2.0 */
#include "block/space.h"

#include <errno.h>

#include "base/bytes.h"

/* block_take_first writes at most this many bytes. */
#define FIRST_BLOCK 4096u

int block_make_room(struct file *file, uint64_t len, uint64_t clear)
{
    uint64_t have = 0;
    int r = file_truncate(file, len);

    if (r != -ENOTSUP)
        return r;
    r = file_get_len(file, &have);
    if (r == 0 && have < len)
        r = -ENOSPC;
    clear = min_u64(max_u64(clear, BLOCK_SECTOR_SIZE), have);
    return r < 0 ? r : file_zero(file, 0, clear, false);
}

int block_take_first(struct file *file, uint64_t len)
{
    size_t first = len < FIRST_BLOCK ? BLOCK_SECTOR_SIZE : FIRST_BLOCK;

    return file->fixed_len || len == 0 ? 0 : file_write(file, 0, file_zeroes, first);
}

int block_take_space(struct file *file, uint64_t off, uint64_t len, enum block_prealloc prealloc)
{
    if (len == 0)
        return 0;
    switch (prealloc) {
    case BLOCK_PREALLOC_FALLOC:
        return file_zero(file, off, len, false);
    case BLOCK_PREALLOC_FULL:
        return file_write_zeroes(file, off, len);
    default:
        return 0;
    }
}

int block_too_large(const struct block_create_options *options, struct err *err)
{
    bool qcow2 = options->format == BLOCK_FORMAT_QCOW2;

    return err_set(err, -EFBIG, "%s: The image size is too large for file format '%s'%s",
                   options->path, qcow2 ? "qcow2" : "raw",
                   qcow2 ? " (try using a larger cluster size)" : "");
}
