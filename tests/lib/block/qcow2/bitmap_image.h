/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images with persistent dirty bitmaps for tests, and what their files say of them, read without
 * the engine under test.
 */
#ifndef MINIVMM_TESTS_BITMAP_IMAGE_H
#define MINIVMM_TESTS_BITMAP_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/image.h"
#include "tests/lib/block/mem_env.h"

/* With clusters and granularity of 512 bytes a bitmap has two clusters. */
#define BITMAP_DISK_SIZE (2112ull << 10)
#define BITMAP_DISK_SECTORS ((unsigned)(BITMAP_DISK_SIZE / BLOCK_SECTOR_SIZE))
#define BITMAP_DISK_LONGEST (2 * BITMAP_DISK_SIZE)

#define BITMAP_FLAG_IN_USE 1u
#define BITMAP_FLAG_AUTO 2u

struct bitmap_layout {
    uint32_t cluster_size;
    unsigned refcount_bits;
    const char *backing;
    bool extended_l2;
};

#define BITMAP_LAYOUTS 5
extern const struct bitmap_layout bitmap_layouts[BITMAP_LAYOUTS];

/* ---- images, which abort the test if they cannot be had -------------------------------------- */

enum bitmap_image_start { BITMAPS_NONE, BITMAPS_ONE, BITMAPS_ALL };

/* A new image on a new disk. */
void bitmap_image_make(struct mem_disk *disk, const struct bitmap_layout *layout);

/* The same with some data: "live" of 512 bytes, and with ALL "old", disabled, and "other". */
void bitmap_image_set_up(struct mem_disk *disk, const struct bitmap_layout *layout,
                         enum bitmap_image_start start);

struct block *bitmap_image_open(struct mem_disk *disk, bool writable, struct mem_env *env);

/* At most 64 sectors of a value. */
void bitmap_image_write(struct block *block, uint64_t off, size_t len, uint8_t value);

/* As block_bitmap_edit. */
int bitmap_image_edit(struct block *block, enum block_bitmap_op op, const char *name,
                      const char *source, uint32_t granularity, struct err *err);
void bitmap_image_must_edit(struct block *block, enum block_bitmap_op op, const char *name,
                            const char *source, uint32_t granularity);

/* ---- what the file says ---------------------------------------------------------------------- */

#define SEEN_BITMAPS_MAX 8u

struct seen_bitmap {
    char name[16];
    uint32_t flags;
    unsigned granularity_bits;
    uint64_t hash;                                             /* of its bits */
    uint8_t bits[BITMAP_DISK_LONGEST / BLOCK_SECTOR_SIZE / 8]; /* as many as the disk needs */
};

struct seen_bitmaps {
    uint64_t len; /* of the disk */
    unsigned n;
    struct seen_bitmap list[SEEN_BITMAPS_MAX];
};

static inline bool seen_has_bit(const uint8_t *bits, uint64_t bit)
{
    return bits[bit / 8] >> (bit % 8) & 1;
}

/* Aborts the test where it makes no sense. */
void bitmap_image_see(const struct mem_disk *disk, struct seen_bitmaps *all);
const struct seen_bitmap *seen_bitmaps_find(const struct seen_bitmaps *all, const char *name);

/* With `marked`, bitmaps in `a` may be in use where they are not in `b`. */
bool seen_bitmaps_same(const struct seen_bitmaps *a, const struct seen_bitmaps *b, bool marked);

#endif
