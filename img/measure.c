/* SPDX-License-Identifier: Apache-2.0 */
#include "img/measure.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

#define DEFAULT_CLUSTER (64u << 10)
#define DEFAULT_REFCOUNT_BITS 16u

/* Bytes of an entry. */
#define L1_ENTRY 8u
#define L2_ENTRY 8u
#define L2_ENTRY_EXTENDED 16u
#define REFTABLE_ENTRY 8u
#define BITMAP_TABLE_ENTRY 8u
#define BITMAP_DIR_ENTRY 24u

/* QEMU's limit of the format. */
#define L1_BYTES_MAX (32u << 20)

struct layout {
    uint64_t cluster;
    uint64_t l2_entry;
    uint64_t refcount_bits;
};

static struct layout layout_of(const struct block_create_options *create)
{
    return (struct layout){
        .cluster = create->cluster_size ? create->cluster_size : DEFAULT_CLUSTER,
        .l2_entry = create->extended_l2 ? L2_ENTRY_EXTENDED : L2_ENTRY,
        .refcount_bits = create->refcount_bits ? create->refcount_bits : DEFAULT_REFCOUNT_BITS,
    };
}

/* Refcount table and blocks for so many clusters, and for themselves: until it is enough. */
static uint64_t refcount_bytes(const struct layout *l, uint64_t clusters)
{
    uint64_t per_block = l->cluster * 8 / l->refcount_bits;
    uint64_t blocks = 0;
    uint64_t table = 0;
    uint64_t before;

    do {
        before = table + blocks;
        blocks = div_round_up(clusters + before, per_block);
        table = div_round_up(blocks * REFTABLE_ENTRY, l->cluster);
    } while (table + blocks != before);
    return before * l->cluster;
}

/* The file when every cluster of the disk is there; `len` is whole clusters. */
static uint64_t full_bytes(const struct layout *l, uint64_t len)
{
    uint64_t l2 = align_up(len / l->cluster * l->l2_entry, l->cluster);
    uint64_t l1 = align_up(l2 / l->cluster * L1_ENTRY, l->cluster);
    uint64_t tables = l->cluster + l1 + l2; /* and the header */

    return tables + refcount_bytes(l, (tables + len) / l->cluster) + len;
}

/* Clusters of the new image that data of the old one lies in. */
static int data_bytes(const struct layout *l, struct block *block, uint64_t len,
                      uint64_t *ret_bytes, struct err *err)
{
    uint64_t bytes = 0;
    uint64_t end;

    for (uint64_t off = 0; off < len; off = end) {
        struct block_status status;
        int r = block_get_host_status(block, off, len - off, false, &status);

        if (r < 0)
            return err_set_errno(err, r, "Unable to get block status");
        end = off + status.len;
        if (status.flags & BLOCK_STATUS_ZERO)
            continue;
        end = align_up(end, l->cluster);
        bytes += end - align_down(off, l->cluster);
    }
    *ret_bytes = bytes;
    return 0;
}

/* All bits, their table, and what says so in the directory. */
static int bitmap_bytes(const struct layout *l, struct block *block, uint64_t len,
                        uint64_t *ret_bytes, struct err *err)
{
    struct block_bitmap *list;
    uint64_t bytes = 0;
    uint64_t directory = 0;
    unsigned n;
    int r = block_bitmap_list(block, &list, &n, err);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < n; i++) {
        uint64_t bits = div_round_up(len, list[i].granularity);
        uint64_t clusters = div_round_up(div_round_up(bits, 8), l->cluster);

        bytes += clusters * l->cluster + align_up(clusters * BITMAP_TABLE_ENTRY, l->cluster);
        directory += align_up(BITMAP_DIR_ENTRY + strlen(list[i].name), 8);
    }
    block_bitmap_list_free(list, n);
    *ret_bytes = bytes + align_up(directory, l->cluster);
    return 0;
}

static int measure_source(const struct block_create_options *create, struct block *block,
                          uint64_t len, struct measure *m, struct err *err)
{
    struct layout l = layout_of(create);
    struct block_details details;
    int r = 0;

    block_get_details(block, &details);
    m->has_bitmaps = create->version != 2 && details.version >= 3;
    if (m->has_bitmaps)
        r = bitmap_bytes(&l, block, len, &m->bitmaps, err);
    if (r == 0 && create->backing_file) /* how much of it is shared cannot be told */
        m->required = align_up(len, l.cluster);
    else if (r == 0)
        r = data_bytes(&l, block, len, &m->required, err);
    return r;
}

static int measure_qcow2(const struct block_create_options *create, struct block *block,
                         uint64_t len, struct measure *m, struct err *err)
{
    struct layout l = layout_of(create);
    uint64_t whole = align_up(len, l.cluster);
    uint64_t tables = div_round_up(whole / l.cluster, l.cluster / l.l2_entry);
    int r = 0;

    if (tables * L1_ENTRY > L1_BYTES_MAX)
        return err_set(err, -EFBIG,
                       "The image size is too large (try using a larger cluster size)");
    if (block)
        r = measure_source(create, block, len, m, err);
    if (create->prealloc == BLOCK_PREALLOC_FULL || create->prealloc == BLOCK_PREALLOC_FALLOC)
        m->required = whole;
    m->full = full_bytes(&l, whole);
    m->required += m->full - whole;
    return r;
}

int measure(const struct block_create_options *create, struct block *block,
            struct measure *ret_measure, struct err *err)
{
    struct measure m = {.required = 0};
    struct block_info info = {.len = create->len};
    int r = block_create_check(create, err);

    if (block)
        block_get_info(block, &info);
    if (r == 0 && create->format == BLOCK_FORMAT_QCOW2)
        r = measure_qcow2(create, block, info.len, &m, err);
    else
        m.required = m.full = align_up(info.len, BLOCK_SECTOR_SIZE);
    if (r == 0)
        *ret_measure = m;
    return r;
}
