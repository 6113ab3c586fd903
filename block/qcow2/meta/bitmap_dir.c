/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/bitmap_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

#define FLAGS_RESERVED 0xfffffffcu

#define ENTRY_RESERVED 0xff000000000001feull

/* ---- the extension --------------------------------------------------------------------------- */

static int parse_extension(const struct qcow2 *q, const uint8_t *data, uint32_t len,
                           struct qcow2_bitmaps *ret_bitmaps)
{
    struct qcow2_bitmaps bitmaps;

    if (len != EXT_BITMAPS_LEN)
        return -EINVAL;
    bitmaps.n = load_be32(data);
    bitmaps.directory_len = load_be64(data + 8);
    bitmaps.directory_host = load_be64(data + 16);
    if (load_be32(data + 4) != 0 || bitmaps.n == 0 || bitmaps.n > QCOW2_BITMAPS_MAX ||
        bitmaps.directory_len == 0 || bitmaps.directory_len > QCOW2_BITMAP_DIRECTORY_MAX ||
        bitmaps.directory_host == 0 || !is_aligned(bitmaps.directory_host, q->cluster_size) ||
        bitmaps.directory_host >= QCOW2_HOST_MAX)
        return -EINVAL;
    *ret_bitmaps = bitmaps;
    return 0;
}

static int find_extension(const struct qcow2 *q, const uint8_t *hdr, uint64_t len,
                          struct qcow2_bitmaps *ret_bitmaps)
{
    uint64_t backing = load_be64(hdr + HDR_BACKING_OFF);
    uint64_t at = load_be32(hdr + HDR_HEADER_LEN);
    uint64_t end = backing ? min_u64(len, backing) : len;

    while (range_fits(at, 8, end)) {
        uint32_t type = load_be32(hdr + at);
        uint32_t ext_len = load_be32(hdr + at + 4);

        if (type == EXT_END || !range_fits(at + 8, ext_len, end))
            break;
        if (type == EXT_BITMAPS)
            return parse_extension(q, hdr + at + 8, ext_len, ret_bitmaps);
        at += 8 + align_up(ext_len, 8);
    }
    return 0; /* its feature bit is set, but QEMU accepts such an image too */
}

int qcow2_bitmaps_find(struct qcow2 *q, struct qcow2_bitmaps *ret_bitmaps)
{
    /* Header and extensions lie in the first cluster. */
    uint64_t len = min_u64(q->cluster_size, QCOW2_HEADER_MAX);
    uint8_t *hdr;
    int r;

    *ret_bitmaps = (struct qcow2_bitmaps){0};
    if (q->version < 3 || !(q->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return 0;
    hdr = malloc(len);
    if (!hdr)
        return -ENOMEM;
    r = qcow2_meta_read(q, 0, hdr, len);
    if (r == 0)
        r = find_extension(q, hdr, len, ret_bitmaps);
    free(hdr);
    return r;
}

/* ---- the directory --------------------------------------------------------------------------- */

/* Has a bitmap of so many bytes a bit for each part of the disk? */
static bool covers_disk(const struct qcow2 *q, uint64_t bytes, unsigned granularity_bits)
{
    uint64_t bits = div_round_up(q->block.len, 1ull << granularity_bits);

    return bits <= bytes * 8;
}

static bool entry_ok(const struct qcow2 *q, const uint8_t *entry)
{
    uint64_t host = load_be64(entry + QCOW2_BITMAP_DIR_TABLE_OFF);
    uint64_t bytes = (uint64_t)load_be32(entry + QCOW2_BITMAP_DIR_TABLE_SIZE) << q->cluster_bits;
    uint32_t flags = load_be32(entry + QCOW2_BITMAP_DIR_FLAGS);
    unsigned name_len = load_be16(entry + QCOW2_BITMAP_DIR_NAME_LEN);
    unsigned granularity = entry[QCOW2_BITMAP_DIR_GRANULARITY];

    if (host == 0 || !is_aligned(host, q->cluster_size) || host >= QCOW2_HOST_MAX || bytes == 0 ||
        bytes > QCOW2_BITMAP_BYTES_MAX)
        return false;
    if ((flags & FLAGS_RESERVED) || entry[QCOW2_BITMAP_DIR_TYPE] != QCOW2_BITMAP_TYPE_DIRTY ||
        name_len == 0 || name_len > QCOW2_BITMAP_NAME_MAX ||
        load_be32(entry + QCOW2_BITMAP_DIR_EXTRA_LEN) != 0)
        return false;
    if (granularity < QCOW2_BITMAP_GRANULARITY_MIN || granularity > QCOW2_BITMAP_GRANULARITY_MAX)
        return false;
    return (flags & QCOW2_BITMAP_IN_USE) || covers_disk(q, bytes, granularity);
}

static int walk_directory(struct qcow2 *q, const struct qcow2_bitmaps *bitmaps, const uint8_t *data,
                          int (*visit)(void *opaque, const struct qcow2_bitmap *bitmap),
                          void *opaque)
{
    uint64_t end = bitmaps->directory_len;
    uint64_t at = 0;
    uint32_t n = 0;
    int r = 0;

    for (; at < end && r == 0; n++) {
        struct qcow2_bitmap bitmap;
        uint64_t len;

        if (n == bitmaps->n || !range_fits(at, QCOW2_BITMAP_DIR_LEN, end) ||
            !entry_ok(q, data + at))
            return -EINVAL;
        len = align_up(QCOW2_BITMAP_DIR_LEN + load_be16(data + at + QCOW2_BITMAP_DIR_NAME_LEN), 8);
        if (!range_fits(at, len, end))
            return -EINVAL;
        bitmap.table_host = load_be64(data + at + QCOW2_BITMAP_DIR_TABLE_OFF);
        bitmap.table_n = load_be32(data + at + QCOW2_BITMAP_DIR_TABLE_SIZE);
        bitmap.flags = load_be32(data + at + QCOW2_BITMAP_DIR_FLAGS);
        bitmap.flags_host = bitmaps->directory_host + at + QCOW2_BITMAP_DIR_FLAGS;
        bitmap.granularity_bits = data[at + QCOW2_BITMAP_DIR_GRANULARITY];
        bitmap.name = (const char *)data + at + QCOW2_BITMAP_DIR_LEN;
        bitmap.name_len = load_be16(data + at + QCOW2_BITMAP_DIR_NAME_LEN);
        r = visit(opaque, &bitmap);
        at += len;
    }
    return r == 0 && n != bitmaps->n ? -EINVAL : r;
}

int qcow2_bitmaps_walk(struct qcow2 *q, const struct qcow2_bitmaps *bitmaps,
                       int (*visit)(void *opaque, const struct qcow2_bitmap *bitmap), void *opaque)
{
    uint8_t *data;
    int r;

    if (bitmaps->n == 0)
        return 0;
    data = malloc(bitmaps->directory_len);
    if (!data)
        return -ENOMEM;
    r = qcow2_meta_read(q, bitmaps->directory_host, data, bitmaps->directory_len);
    if (r == 0)
        r = walk_directory(q, bitmaps, data, visit, opaque);
    free(data);
    return r;
}

bool qcow2_bitmap_entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    if ((entry & ENTRY_RESERVED) || !is_aligned(host, q->cluster_size) ||
        (host != 0 && (entry & QCOW2_BITMAP_ALL_ONES)))
        return false;
    *ret_host = host;
    return true;
}

/* ---- the list for the image tool ------------------------------------------------------------- */

struct listing {
    struct block_bitmap *list;
    unsigned n;
};

static int add_to_list(void *opaque, const struct qcow2_bitmap *bitmap)
{
    struct listing *listing = opaque;
    struct block_bitmap *entry = &listing->list[listing->n];

    *entry = (struct block_bitmap){
        .name = strndup(bitmap->name, bitmap->name_len),
        .granularity = 1u << bitmap->granularity_bits,
        .in_use = bitmap->flags & QCOW2_BITMAP_IN_USE,
        .follows = bitmap->flags & QCOW2_BITMAP_AUTO,
    };
    listing->n++;
    return entry->name ? 0 : -ENOMEM;
}

int qcow2_list_bitmaps(struct block *block, struct block_bitmap **ret_list, unsigned *ret_n)
{
    struct qcow2 *q = qcow2_of(block);
    struct listing listing = {0};
    struct qcow2_bitmaps bitmaps;
    int r = qcow2_bitmaps_find(q, &bitmaps);

    if (r < 0)
        return r;
    listing.list = calloc(bitmaps.n + 1, sizeof(*listing.list));
    if (!listing.list)
        return -ENOMEM;
    r = qcow2_bitmaps_walk(q, &bitmaps, add_to_list, &listing);
    if (r < 0) {
        block_bitmap_list_free(listing.list, listing.n);
        return r;
    }
    *ret_list = listing.list;
    *ret_n = listing.n;
    return 0;
}
