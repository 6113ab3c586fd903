/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image checker of the tests' own: what all tables refer to, beside what is counted. It shares
 * nothing with the engine's, so that a rule misread there is not misread here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/block/qcow2/qcow2_image.h"

#define OFF_MASK 0x00fffffffffffe00ull
#define COPIED (1ull << 63)
#define COMPRESSED (1ull << 62)

#define INCOMPAT_DIRTY (1u << 0)
#define INCOMPAT_DATA_FILE (1u << 2)
#define INCOMPAT_EXTL2 (1u << 4)
#define AUTOCLEAR_BITMAPS (1u << 0)
#define EXTENSION_BITMAPS 0x23852875u

struct checker {
    const struct mem_disk *disk;
    struct qcow2_image_check *result;
    unsigned bits;
    unsigned entry_len; /* of L2 tables */
    bool data_file;
    uint64_t cluster;
    uint64_t nclusters;
    uint64_t reftable;
    uint64_t reftable_entries;
    unsigned order;
    uint32_t *used;
};

static void error(struct checker *c, const char *what, uint64_t at)
{
    if (c->result->errors++ == 0)
        snprintf(c->result->first, sizeof(c->result->first), "%s at %#llx", what,
                 (unsigned long long)at);
}

/* ---- what is counted ------------------------------------------------------------------------- */

static uint64_t get_bits(const uint8_t *block, unsigned order, uint64_t i)
{
    unsigned bits = 1u << order;
    uint64_t value = 0;

    if (bits < 8)
        return (block[i * bits / 8] >> (i * bits % 8)) & ((1u << bits) - 1);
    for (unsigned byte = 0; byte < bits / 8; byte++)
        value = value << 8 | block[i * (bits / 8) + byte];
    return value;
}

static bool in_file(const struct checker *c, uint64_t host)
{
    return host % c->cluster == 0 && host >> c->bits < c->nclusters;
}

static uint64_t get_count(const struct checker *c, uint64_t cluster)
{
    uint64_t per_block = c->cluster * 8 >> c->order;
    uint64_t block;

    if (cluster / per_block >= c->reftable_entries)
        return 0;
    block = load_be64(c->disk->data + c->reftable + cluster / per_block * 8);
    if (!block || !in_file(c, block))
        return 0;
    return get_bits(c->disk->data + block, c->order, cluster % per_block);
}

bool qcow2_image_find_leak(const struct mem_disk *disk, uint64_t *ret_at, uint8_t *ret_byte)
{
    unsigned order = load_be32(disk->data + 4) == 3 ? load_be32(disk->data + 96) : 4;
    uint64_t cluster = 1ull << load_be32(disk->data + 20);
    uint64_t per_block = cluster * 8 >> order;
    const uint8_t *reftable = disk->data + load_be64(disk->data + 48);
    uint64_t counted = load_be32(disk->data + 56) * cluster / 8 * per_block;

    for (uint64_t n = 0; n < min_u64(counted, disk->len / cluster + 2); n++) {
        uint64_t block = load_be64(reftable + n / per_block * 8);
        uint64_t i = n % per_block;

        if (!block || get_bits(disk->data + block, order, i) != 0)
            continue;
        /* Counts of less than a byte begin at its low end, others end with their lowest byte. */
        *ret_at = block + (order < 3 ? i >> (3 - order) : ((i + 1) << (order - 3)) - 1);
        *ret_byte = (uint8_t)(disk->data[*ret_at] | 1u << (order < 3 ? (i << order) % 8 : 0));
        return true;
    }
    return false;
}

/* ---- what is used ---------------------------------------------------------------------------- */

static void use(struct checker *c, uint64_t host, uint64_t len, const char *what)
{
    if (len == 0)
        return;
    for (uint64_t i = host >> c->bits; i <= (host + len - 1) >> c->bits; i++) {
        if (i >= c->nclusters)
            error(c, what, host);
        else
            c->used[i]++;
    }
}

static void use_cluster(struct checker *c, uint64_t host, const char *what)
{
    if (host % c->cluster)
        error(c, what, host);
    else
        use(c, host, c->cluster, what);
}

/* Entries of the active tables say COPIED if, and only if, nobody else refers to the cluster. */
static void check_copied(struct checker *c, uint64_t entry, const char *what)
{
    uint64_t host = entry & OFF_MASK;

    if (!c->result->dirty && (get_count(c, host >> c->bits) == 1) != !!(entry & COPIED))
        error(c, what, host);
}

static void walk_l2_entry(struct checker *c, uint64_t entry, bool active)
{
    uint64_t host = entry & OFF_MASK;

    if (entry & COMPRESSED) {
        unsigned off_bits = 62 - (c->bits - 8);
        uint64_t sectors = ((entry & ~(3ull << 62)) >> off_bits) + 1;

        host = entry & ((1ull << off_bits) - 1);
        if (entry & COPIED)
            error(c, "compressed cluster marked COPIED", host);
        use(c, host, sectors * 512 - host % 512, "compressed cluster");
    } else if (host && !c->data_file) {
        use_cluster(c, host, "data cluster");
        if (active)
            check_copied(c, entry, "wrong COPIED flag of data");
    }
}

static void walk_l1(struct checker *c, uint64_t l1, uint64_t n, bool active)
{
    use(c, l1, n * 8, "L1 table");
    for (uint64_t i = 0; i < n && l1 + n * 8 <= c->disk->len; i++) {
        uint64_t entry = load_be64(c->disk->data + l1 + i * 8);
        uint64_t table = entry & OFF_MASK;

        if (!table)
            continue;
        use_cluster(c, table, "L2 table");
        if (!in_file(c, table))
            continue;
        if (active)
            check_copied(c, entry, "wrong COPIED flag of an L2 table");
        for (uint64_t at = 0; at < c->cluster; at += c->entry_len)
            walk_l2_entry(c, load_be64(c->disk->data + table + at), active);
    }
}

static void walk_snapshots(struct checker *c)
{
    const uint8_t *hdr = c->disk->data;
    uint64_t table = load_be64(hdr + 64);
    uint64_t at = table;

    for (uint32_t i = load_be32(hdr + 60); i > 0 && at + 40 <= c->disk->len; i--) {
        const uint8_t *entry = hdr + at;

        walk_l1(c, load_be64(entry), load_be32(entry + 8), false);
        at += align_up(
            40ull + load_be32(entry + 36) + load_be16(entry + 12) + load_be16(entry + 14), 8);
    }
    use(c, table, at - table, "snapshot table");
}

static void walk_bitmaps(struct checker *c, const uint8_t *extension)
{
    uint64_t left = load_be64(extension + 8);
    uint64_t at = load_be64(extension + 16);

    use(c, at, left, "bitmap directory");
    for (uint32_t i = load_be32(extension); i > 0 && at + 24 <= c->disk->len; i--) {
        const uint8_t *entry = c->disk->data + at;
        uint64_t table = load_be64(entry);
        uint32_t n = load_be32(entry + 8);

        use(c, table, n * 8ull, "bitmap table");
        for (uint32_t k = 0; k < n && table + n * 8ull <= c->disk->len; k++) {
            uint64_t host = load_be64(c->disk->data + table + k * 8ull) & OFF_MASK;

            if (host)
                use_cluster(c, host, "bitmap");
        }
        at += align_up(24ull + load_be16(entry + 18) + load_be32(entry + 20), 8);
    }
}

static void walk_extensions(struct checker *c)
{
    const uint8_t *hdr = c->disk->data;
    uint64_t at = load_be32(hdr + 100);

    while (at + 8 <= c->cluster && load_be32(hdr + at) != 0) {
        if (load_be32(hdr + at) == EXTENSION_BITMAPS && (load_be64(hdr + 88) & AUTOCLEAR_BITMAPS))
            walk_bitmaps(c, hdr + at + 8);
        at += 8 + align_up(load_be32(hdr + at + 4), 8);
    }
}

static void walk_refcount_blocks(struct checker *c)
{
    use(c, c->reftable, c->reftable_entries * 8, "refcount table");
    for (uint64_t i = 0; i < c->reftable_entries; i++) {
        uint64_t block = load_be64(c->disk->data + c->reftable + i * 8) & OFF_MASK;

        if (block)
            use_cluster(c, block, "refcount block");
    }
}

static void compare(struct checker *c)
{
    for (uint64_t i = 0; i < c->nclusters; i++) {
        uint64_t count = get_count(c, i);

        if (count < c->used[i] && !c->result->dirty)
            error(c, "counted too low", i << c->bits);
        if (count > c->used[i])
            c->result->leaks++;
    }
}

void qcow2_image_check(const struct mem_disk *disk, struct qcow2_image_check *ret_check)
{
    const uint8_t *hdr = disk->data;
    bool v3 = load_be32(hdr + 4) == 3;
    uint64_t incompatible = v3 ? load_be64(hdr + 72) : 0;
    struct checker c = {.disk = disk, .result = ret_check, .bits = load_be32(hdr + 20)};

    *ret_check = (struct qcow2_image_check){.dirty = incompatible & INCOMPAT_DIRTY};
    c.cluster = 1ull << c.bits;
    c.entry_len = incompatible & INCOMPAT_EXTL2 ? 16 : 8;
    c.data_file = incompatible & INCOMPAT_DATA_FILE;
    c.order = v3 ? load_be32(hdr + 96) : 4;
    c.reftable = load_be64(hdr + 48);
    c.reftable_entries = load_be32(hdr + 56) * c.cluster / 8;
    c.nclusters = div_round_up(disk->len, c.cluster);
    if (!range_fits(c.reftable, c.reftable_entries * 8, MEM_DISK_MAX)) {
        error(&c, "refcount table", c.reftable);
        return;
    }
    c.used = calloc(c.nclusters + 1, sizeof(*c.used));
    if (!c.used)
        abort();
    use_cluster(&c, 0, "header");
    walk_refcount_blocks(&c);
    walk_l1(&c, load_be64(hdr + 40), load_be32(hdr + 36), true);
    walk_snapshots(&c);
    if (v3)
        walk_extensions(&c);
    compare(&c);
    free(c.used);
}
