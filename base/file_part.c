/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file_part.h"

#include <errno.h>

int file_part_find(const struct file_part *part, uint64_t *off, uint64_t len)
{
    uint64_t end;

    if (!range_fits(*off, len, part->len) || !add_u64(*off, part->off, off) ||
        !add_u64(*off, len, &end))
        return -ENOSPC;
    return 0;
}

uint64_t file_part_clip(const struct file_part *part, uint64_t off, uint64_t len)
{
    return off < part->len ? min_u64(len, part->len - off) : 0;
}

uint64_t file_part_extent_end(const struct file_part *part, uint64_t end, bool hole)
{
    if (end == UINT64_MAX || end - part->off < part->len)
        return end == UINT64_MAX ? end : end - part->off;
    return hole ? UINT64_MAX : part->len; /* past the end of the part is nothing */
}

uint64_t file_part_room(uint64_t file_len)
{
    return file_len > UINT64_MAX - FILE_SECTOR ? file_len : align_up(file_len, FILE_SECTOR);
}

uint64_t file_part_len(const struct file_part *part, uint64_t file_len)
{
    uint64_t end = part->off == 0 ? file_len : file_part_room(file_len);

    if (part->len != FILE_PART_REST)
        return part->len;
    return end > part->off ? end - part->off : 0;
}
