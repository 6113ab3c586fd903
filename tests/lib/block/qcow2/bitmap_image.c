/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/qcow2/bitmap_image.h"

#include <string.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/hash.h"
#include "tests/lib/unit.h"

#define SECTOR ((size_t)BLOCK_SECTOR_SIZE)

#define EXTENSION 0x23852875u
#define OFF_MASK 0x00fffffffffffe00ull

/* ---- images ---------------------------------------------------------------------------------- */

/*
 * The feature names reach beyond the header's first sector, or do not fit at all; with a name
 * after them.
 */
const struct bitmap_layout bitmap_layouts[BITMAP_LAYOUTS] = {
    {.cluster_size = 512, .refcount_bits = 64},
    {.cluster_size = 512, .refcount_bits = 16, .backing = "base"},
    {.cluster_size = 4096, .refcount_bits = 1},
    {.cluster_size = 4096, .refcount_bits = 16, .backing = "base"},
    {.cluster_size = 65536, .refcount_bits = 8, .extended_l2 = true},
};

struct block *bitmap_image_open(struct mem_disk *disk, bool writable, struct mem_env *env)
{
    struct block_options options = {.path = "top",
                                    .format = BLOCK_FORMAT_QCOW2,
                                    .readonly = !writable,
                                    .discard = true,
                                    .flags = writable ? 0 : BLOCK_OPEN_SHARE};
    static struct mem_disk base = {.name = NULL};
    struct block *block;
    struct err err = {0};

    if (!base.name)
        mem_disk_init(&base, "base");
    base.len = BITMAP_DISK_SIZE;
    mem_env_init(env);
    mem_env_add(env, disk);
    mem_env_add(env, &base);
    if (block_open_in(&env->env, &options, &block, &err) < 0)
        ck_abort_msg("cannot open: %s", err.msg);
    return block;
}

void bitmap_image_make(struct mem_disk *disk, const struct bitmap_layout *layout)
{
    struct block_create_options options = {.path = "top",
                                           .format = BLOCK_FORMAT_QCOW2,
                                           .len = BITMAP_DISK_SIZE,
                                           .cluster_size = layout->cluster_size,
                                           .refcount_bits = layout->refcount_bits,
                                           .extended_l2 = layout->extended_l2,
                                           .backing_file = layout->backing,
                                           .backing_format = layout->backing ? BLOCK_FORMAT_RAW
                                                                             : BLOCK_FORMAT_PROBE,
                                           .backing_unchecked = true};
    struct mem_env env;
    struct err err = {0};

    mem_disk_init(disk, "top");
    mem_env_init(&env);
    mem_env_add(&env, disk);
    ck_assert_msg(block_create_in(&env.env, &options, &err) == 0, "%s", err.msg);
}

int bitmap_image_edit(struct block *block, enum block_bitmap_op op, const char *name,
                      const char *source, uint32_t granularity, struct err *err)
{
    const struct block_bitmap_edit what = {
        .op = op, .name = name, .source_name = source, .granularity = granularity};

    return block_bitmap_edit(block, &what, err);
}

void bitmap_image_must_edit(struct block *block, enum block_bitmap_op op, const char *name,
                            const char *source, uint32_t granularity)
{
    struct err err = {0};

    ck_assert_msg(bitmap_image_edit(block, op, name, source, granularity, &err) == 0, "%s: %s",
                  name, err.msg);
}

void bitmap_image_write(struct block *block, uint64_t off, size_t len, uint8_t value)
{
    static uint8_t data[64 * SECTOR];

    memset(data, value, sizeof(data));
    ck_assert_int_eq(mem_block_write(block, off, data, len), 0);
}

void bitmap_image_set_up(struct mem_disk *disk, const struct bitmap_layout *layout,
                         enum bitmap_image_start start)
{
    struct mem_env env;
    struct block *block;

    bitmap_image_make(disk, layout);
    block = bitmap_image_open(disk, true, &env);
    if (start != BITMAPS_NONE)
        bitmap_image_must_edit(block, BLOCK_BITMAP_ADD, "live", NULL, 512);
    if (start == BITMAPS_ALL) {
        bitmap_image_must_edit(block, BLOCK_BITMAP_ADD, "old", NULL, 65536);
        bitmap_image_must_edit(block, BLOCK_BITMAP_ADD, "other", NULL, 4096);
    }
    bitmap_image_write(block, 100 * SECTOR, 30 * SECTOR, 1);
    bitmap_image_write(block, BITMAP_DISK_SIZE - 5 * SECTOR, SECTOR, 2);
    if (start == BITMAPS_ALL) {
        bitmap_image_must_edit(block, BLOCK_BITMAP_DISABLE, "old", NULL, 0);
        bitmap_image_must_edit(block, BLOCK_BITMAP_CLEAR, "other", NULL, 0);
    }
    bitmap_image_write(block, 1 * MIB, 64 * SECTOR, 3);
    ck_assert_int_eq(block_close(block), 0);
}

/* ---- what the file says ---------------------------------------------------------------------- */

static void set_bit(uint8_t *bits, uint64_t bit)
{
    bits[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static void see_bits(const struct mem_disk *disk, uint64_t len, uint64_t table, uint32_t n,
                     struct seen_bitmap *seen)
{
    uint64_t cluster = 1ull << load_be32(disk->data + 20);
    uint64_t nbits = div_round_up(len, 1ull << seen->granularity_bits);

    ck_assert_uint_eq(n, div_round_up(nbits, cluster * 8));
    for (uint64_t bit = 0; bit < nbits; bit++) {
        uint64_t entry = load_be64(disk->data + table + bit / 8 / cluster * 8);
        uint64_t host = entry & OFF_MASK;

        ck_assert_uint_le(host + cluster, MEM_DISK_MAX);
        if (host ? seen_has_bit(disk->data + host, bit % (cluster * 8)) : entry & 1)
            set_bit(seen->bits, bit);
    }
    seen->hash = hash_bytes(HASH_START, seen->bits, sizeof(seen->bits));
}

static void see_directory(const struct mem_disk *disk, const uint8_t *extension,
                          struct seen_bitmaps *all)
{
    uint64_t at = load_be64(extension + 16);

    all->n = load_be32(extension);
    ck_assert_uint_le(all->n, SEEN_BITMAPS_MAX);
    for (unsigned i = 0; i < all->n; i++) {
        const uint8_t *entry = disk->data + at;
        struct seen_bitmap *seen = &all->list[i];
        unsigned name_len = load_be16(entry + 18);

        ck_assert_uint_lt(name_len, sizeof(seen->name));
        memcpy(seen->name, entry + 24, name_len);
        seen->flags = load_be32(entry + 12);
        seen->granularity_bits = entry[17];
        if (!(seen->flags & BITMAP_FLAG_IN_USE))
            see_bits(disk, all->len, load_be64(entry), load_be32(entry + 8), seen);
        at += align_up(24 + name_len, 8);
    }
}

void bitmap_image_see(const struct mem_disk *disk, struct seen_bitmaps *all)
{
    uint64_t at = load_be32(disk->data + 100);

    memset(all, 0, sizeof(*all));
    all->len = load_be64(disk->data + 24);
    if (!(load_be64(disk->data + 88) & 1))
        return;
    while (load_be32(disk->data + at) != EXTENSION) {
        ck_assert_uint_ne(load_be32(disk->data + at), 0);
        at += 8 + align_up(load_be32(disk->data + at + 4), 8);
    }
    see_directory(disk, disk->data + at + 8, all);
}

const struct seen_bitmap *seen_bitmaps_find(const struct seen_bitmaps *all, const char *name)
{
    for (unsigned i = 0; i < all->n; i++)
        if (strcmp(all->list[i].name, name) == 0)
            return &all->list[i];
    ck_abort_msg("no bitmap %s", name);
}

bool seen_bitmaps_same(const struct seen_bitmaps *a, const struct seen_bitmaps *b, bool marked)
{
    if (a->n != b->n || a->len != b->len)
        return false;
    for (unsigned i = 0; i < a->n; i++) {
        const struct seen_bitmap *x = &a->list[i];
        const struct seen_bitmap *y = &b->list[i];

        if (strcmp(x->name, y->name) != 0 || x->granularity_bits != y->granularity_bits)
            return false;
        if (marked && x->flags == (y->flags | BITMAP_FLAG_IN_USE))
            continue;
        if (x->flags != y->flags || x->hash != y->hash)
            return false;
    }
    return true;
}
