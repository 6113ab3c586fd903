/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a switch:
 *
 *   1. new L2, L1 and snapshot tables  written by the caller, where the old state has nothing
 *   2. new refcount blocks and table   written here, where the old state has nothing
 *      -- barrier --
 *   3. the header                      one write within one sector
 *      -- barrier --
 *
 * Until 3 reaches the disk, the old header leads only to old tables, none of which was changed.
 * From then on the new counts are those of the new tables, and what only the old ones used is free.
 *
 * Refcount blocks count themselves and each other: making a new one changes the counts in a block
 * that might have stayed as it was, which then has to be made new as well. So blocks are put on a
 * list whenever a count in them changes, until the list is empty.
 */
#include "block/qcow2/switch/switch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/find_places.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/forget.h"
#include "block/qcow2/switch/header_write.h"
#include "block/qcow2/switch/ledger.h"

#define BLOCKS_MAX (QCOW2_REFTABLE_BYTES_MAX / sizeof(uint64_t))

#define SECTOR_LEN BLOCK_SECTOR_SIZE

enum {
    BLOCK_KEPT = 1 << 0,   /* the old block stays in its place */
    BLOCK_QUEUED = 1 << 1, /* on the list */
};

/* A refcount block, and what becomes of it. */
struct planned {
    uint64_t home; /* its place in the file; 0: it has none */
    uint32_t flags;
    uint32_t next; /* on the list, or NO_BLOCK */
};

#define NO_BLOCK UINT32_MAX

struct plan {
    struct qcow2_ledger *ledger;
    struct planned *blocks;
    uint32_t max;     /* blocks that there is room for */
    uint32_t nblocks; /* no block from this number on has a home */
    uint32_t queue;   /* the first on the list, or NO_BLOCK */

    uint64_t table_host;
    uint64_t table_clusters;
};

/* ---- which blocks, and where ----------------------------------------------------------------- */

static uint64_t block_first(const struct plan *plan, uint64_t block)
{
    return block << plan->ledger->q->refblock_bits;
}

static int make_room(struct plan *plan, uint64_t n)
{
    uint64_t max = min_u64(max_u64(n, plan->max * 2ull), BLOCKS_MAX);
    struct planned *blocks;

    if (n > BLOCKS_MAX)
        return -EFBIG;
    if (n <= plan->max)
        return 0;
    blocks = realloc(plan->blocks, max * sizeof(*blocks));
    if (!blocks)
        return -ENOMEM;
    memset(blocks + plan->max, 0, (max - plan->max) * sizeof(*blocks));
    plan->blocks = blocks;
    plan->max = (uint32_t)max;
    return 0;
}

static int enqueue(struct plan *plan, uint64_t block)
{
    int r = make_room(plan, block + 1);

    if (r < 0 || (plan->blocks[block].flags & BLOCK_QUEUED))
        return r;
    plan->blocks[block].flags |= BLOCK_QUEUED;
    plan->blocks[block].next = plan->queue;
    plan->queue = (uint32_t)block;
    return 0;
}

/* Change the counts of metadata, and queue the blocks that hold these counts. */
static int change_counts(struct plan *plan, uint64_t host, uint64_t len, int64_t delta)
{
    const struct qcow2 *q = plan->ledger->q;
    uint64_t first = qcow2_cluster_of(q, host) >> q->refblock_bits;
    uint64_t last = qcow2_cluster_of(q, host + len - 1) >> q->refblock_bits;
    int r = delta ? qcow2_ledger_add(plan->ledger, host, len, delta) : 0;

    for (uint64_t block = first; block <= last && r == 0; block++)
        r = enqueue(plan, block);
    return r;
}

static int alloc_counted(struct plan *plan, uint64_t len, uint64_t *ret_host)
{
    int r = qcow2_ledger_alloc(plan->ledger, len, ret_host);

    return r < 0 ? r : change_counts(plan, *ret_host, len, 0);
}

static bool counts_any(const struct plan *plan, uint64_t block)
{
    uint64_t end = block_first(plan, block + 1);

    return qcow2_counts_next(&plan->ledger->now, block_first(plan, block), end) < end;
}

static int place_block(struct plan *plan, uint32_t block)
{
    uint64_t cluster_size = plan->ledger->q->cluster_size;
    uint64_t home = plan->blocks[block].home;
    int r = 0;

    if (plan->blocks[block].flags & BLOCK_KEPT) {
        plan->blocks[block].flags &= ~BLOCK_KEPT;
        plan->blocks[block].home = 0;
        r = change_counts(plan, home, cluster_size, -1);
        home = 0;
    }
    if (r < 0 || home || !counts_any(plan, block))
        return r;
    r = alloc_counted(plan, cluster_size, &home);
    plan->blocks[block].home = home;
    if (block >= plan->nblocks)
        plan->nblocks = block + 1;
    return r;
}

static int place_blocks(struct plan *plan)
{
    int r = 0;

    while (plan->queue != NO_BLOCK && r == 0) {
        uint32_t block = plan->queue;

        plan->queue = plan->blocks[block].next;
        plan->blocks[block].flags &= ~BLOCK_QUEUED;
        r = place_block(plan, block);
    }
    return r;
}

/*
 * Keep an old block whose counts do not change. But queue it to be placed anew if it lies where
 * space is to be given up, or if its cluster has other references too, so that it must not be
 * written in place later.
 */
static int take_old_block(struct plan *plan, uint32_t block)
{
    struct qcow2_ledger *ledger = plan->ledger;
    uint64_t entry = ledger->q->reftable.entries[block];
    uint64_t first = block_first(plan, block);
    uint64_t end = block_first(plan, block + 1ull);

    if (!qcow2_refblock_ok(ledger->q, entry))
        return entry == 0 && !counts_any(plan, block) ? 0 : enqueue(plan, block);
    plan->blocks[block].home = entry;
    plan->blocks[block].flags |= BLOCK_KEPT;
    plan->nblocks = block + 1;
    if (qcow2_ledger_get(ledger, entry) == 1 && entry < ledger->move_from &&
        qcow2_counts_differ(&ledger->was, &ledger->now, first, end) == end)
        return 0;
    return enqueue(plan, block);
}

static int find_changes(struct plan *plan)
{
    const struct qcow2 *q = plan->ledger->q;
    uint64_t end = (plan->ledger->now.end >> q->refblock_bits) + 1;
    int r = 0;

    for (uint32_t i = 0; i < q->reftable.n && r == 0; i++)
        r = take_old_block(plan, i);
    for (uint64_t i = q->reftable.n; i < end && r == 0; i++)
        r = counts_any(plan, i) ? enqueue(plan, i) : 0;
    return r;
}

/* Give up new blocks without a count: what they counted has moved after they were placed. */
static int drop_empty_blocks(struct plan *plan)
{
    int r = 0;

    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        struct planned *block = &plan->blocks[i];
        uint64_t home = block->home;

        if (home == 0 || (block->flags & BLOCK_KEPT) || counts_any(plan, i))
            continue;
        block->home = 0;
        r = change_counts(plan, home, plan->ledger->q->cluster_size, -1);
    }
    if (r == 0)
        r = place_blocks(plan);
    while (plan->nblocks > 0 && plan->blocks[plan->nblocks - 1].home == 0)
        plan->nblocks--;
    return r;
}

static uint64_t table_clusters(const struct plan *plan)
{
    uint64_t clusters =
        div_round_up(plan->nblocks * sizeof(uint64_t), plan->ledger->q->cluster_size);

    return max_u64(clusters, 1);
}

/* The table's own counts may need another block, and that one a longer table. */
static int place_table(struct plan *plan)
{
    struct qcow2 *q = plan->ledger->q;
    int r = 0;

    while (r == 0 && plan->table_clusters < table_clusters(plan)) {
        uint64_t old = plan->table_clusters;

        plan->table_clusters = table_clusters(plan);
        if (plan->table_clusters > QCOW2_REFTABLE_BYTES_MAX >> q->cluster_bits)
            return -EFBIG;
        if (old)
            r = change_counts(plan, plan->table_host, old << q->cluster_bits, -1);
        if (r == 0)
            r = alloc_counted(plan, plan->table_clusters << q->cluster_bits, &plan->table_host);
        if (r == 0)
            r = place_blocks(plan);
    }
    return r;
}

static int make_plan(struct plan *plan)
{
    struct qcow2 *q = plan->ledger->q;
    uint64_t old_len = q->reftable.n * sizeof(uint64_t);
    int r = find_changes(plan);

    if (r == 0 && plan->queue == NO_BLOCK && q->reftable.n > 0) {
        plan->table_host = q->reftable.host; /* no count changes */
        plan->table_clusters = old_len >> q->cluster_bits;
        return 0;
    }
    if (r == 0 && old_len > 0)
        r = change_counts(plan, q->reftable.host, old_len, -1);
    if (r == 0)
        r = place_blocks(plan);
    if (r == 0)
        r = drop_empty_blocks(plan);
    return r < 0 ? r : place_table(plan);
}

static int plan_init(struct plan *plan, struct qcow2_ledger *ledger)
{
    *plan = (struct plan){.ledger = ledger, .queue = NO_BLOCK};
    return make_room(plan, ledger->q->reftable.n);
}

static void plan_done(struct plan *plan)
{
    free(plan->blocks);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Encode a block. References beyond what a refcount can hold stay an error that a check finds. */
static void encode_block(const struct plan *plan, uint32_t block, uint8_t *data)
{
    const struct qcow2_ledger *ledger = plan->ledger;
    unsigned order = ledger->q->refcount_order;
    uint64_t first = block_first(plan, block);
    uint64_t end = block_first(plan, block + 1ull);

    memset(data, 0, ledger->q->cluster_size);
    for (uint64_t c = qcow2_counts_next(&ledger->now, first, end); c < end;
         c = qcow2_counts_next(&ledger->now, c + 1, end)) {
        uint64_t count = min_u64(qcow2_counts_get(&ledger->now, c), qcow2_refcount_max(order));

        qcow2_refblock_set(order, data, c - first, count);
    }
}

static int write_blocks(const struct plan *plan)
{
    struct qcow2 *q = plan->ledger->q;
    uint8_t *data = malloc(q->cluster_size);
    int r = 0;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        const struct planned *block = &plan->blocks[i];

        if (!block->home || (block->flags & BLOCK_KEPT))
            continue;
        encode_block(plan, i, data);
        r = qcow2_meta_write(q, block->home, data, q->cluster_size);
    }
    free(data);
    return r;
}

static int write_table(const struct plan *plan)
{
    struct qcow2 *q = plan->ledger->q;
    size_t len = plan->table_clusters << q->cluster_bits;
    uint64_t *data = calloc(1, len);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->nblocks; i++)
        data[i] = htobe64(plan->blocks[i].home);
    r = qcow2_meta_write(q, plan->table_host, data, len);
    free(data);
    return r;
}

int qcow2_switch_init(struct qcow2 *q, struct qcow2_switch *ret_next)
{
    uint8_t hdr[SECTOR_LEN];
    int r = qcow2_meta_read(q, 0, hdr, sizeof(hdr));

    if (r < 0)
        return r;
    *ret_next = (struct qcow2_switch){
        .size = load_be64(hdr + HDR_SIZE),
        .l1_host = load_be64(hdr + HDR_L1_OFF),
        .l1_n = load_be32(hdr + HDR_L1_SIZE),
        .snapshots_host = load_be64(hdr + HDR_SNAPSHOTS_OFF),
        .nsnapshots = load_be32(hdr + HDR_NB_SNAPSHOTS),
        .refcount_order = q->refcount_order,
    };
    if (q->version < 3)
        return 0;
    ret_next->incompatible = load_be64(hdr + HDR_INCOMPATIBLE);
    ret_next->compatible = load_be64(hdr + HDR_COMPATIBLE);
    ret_next->autoclear =
        load_be64(hdr + HDR_AUTOCLEAR) & (QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_DATA);
    return 0;
}

/* The fields lie in one sector, so all of them change or none. Durably. */
static int write_fields(struct qcow2 *q, const uint8_t *hdr)
{
    size_t end = q->version < 3 ? HDR_V2_LEN : HDR_HEADER_LEN;
    int r = qcow2_meta_write(q, HDR_SIZE, hdr + HDR_SIZE, end - HDR_SIZE);

    return r < 0 ? r : qcow2_barrier(q);
}

static int write_header(const struct plan *plan, const struct qcow2_switch *next)
{
    struct qcow2 *q = plan->ledger->q;
    uint8_t hdr[SECTOR_LEN];
    int r = qcow2_meta_read(q, 0, hdr, sizeof(hdr));

    if (r < 0)
        return r;
    store_be64(hdr + HDR_SIZE, next->size);
    store_be64(hdr + HDR_L1_OFF, next->l1_host);
    store_be32(hdr + HDR_L1_SIZE, next->l1_n);
    store_be64(hdr + HDR_REFTABLE_OFF, plan->table_host);
    store_be32(hdr + HDR_REFTABLE_CLUSTERS, (uint32_t)plan->table_clusters);
    store_be64(hdr + HDR_SNAPSHOTS_OFF, next->snapshots_host);
    store_be32(hdr + HDR_NB_SNAPSHOTS, next->nsnapshots);
    if (q->version >= 3) {
        store_be64(hdr + HDR_INCOMPATIBLE, next->incompatible);
        store_be64(hdr + HDR_COMPATIBLE, next->compatible);
        store_be64(hdr + HDR_AUTOCLEAR, next->autoclear);
        store_be32(hdr + HDR_REFCOUNT_ORDER, next->refcount_order);
    }
    if (!next->set_bitmaps)
        return write_fields(q, hdr);
    r = qcow2_change_bitmaps(q, hdr, &next->bitmaps);
    return r < 0 ? r : qcow2_barrier(q);
}

/* ---- the image in memory --------------------------------------------------------------------- */

static void replace_table(struct qcow2_table *table, struct qcow2_table *by)
{
    qcow2_table_done(table);
    *table = *by;
    *by = (struct qcow2_table){0};
}

/* Read the new tables. If that fails, the old ones stay in memory and can still be read from. */
static int reload(const struct plan *plan, const struct qcow2_switch *next)
{
    struct qcow2 *q = plan->ledger->q;
    struct qcow2_table l1 = {.host = next->l1_host, .n = next->l1_n};
    struct qcow2_table reftable = {.host = plan->table_host};
    uint64_t file_len;
    int r = file_get_len(q->block.file, &file_len);

    reftable.n = (uint32_t)((plan->table_clusters << q->cluster_bits) / sizeof(uint64_t));
    if (r == 0)
        r = qcow2_table_load(q, &l1, NULL);
    if (r == 0)
        r = qcow2_table_load(q, &reftable, NULL);
    if (r < 0) {
        qcow2_table_done(&l1);
        qcow2_table_done(&reftable);
        return r;
    }
    replace_table(&q->l1, &l1);
    replace_table(&q->reftable, &reftable);
    q->block.len = align_up(next->size, BLOCK_SECTOR_SIZE);
    q->incompatible = next->incompatible;
    q->autoclear = next->autoclear;
    if (file_len > q->file_len) { /* else the file ends where qcow2_file_grow left it */
        q->file_len = file_len;
        q->file_end = max_u64(q->file_end, align_up(file_len, q->cluster_size));
    }
    qcow2_forget(q, QCOW2_FORGET_FILE); /* a commit has changed the backing file, too */
    r = qcow2_cache_init(q);
    if (r == 0 && q->write_ready)
        r = qcow2_find_places(q);
    if (r < 0) {
        /* Without a cache nothing can be looked up any more: all requests fail. */
        qcow2_table_done(&q->l1);
        q->l1.n = 0;
    }
    return r;
}

/* ---- the switch ------------------------------------------------------------------------------ */

/*
 * If the header cannot be written, the old one is put back. If that fails, too, the file may have
 * the old state or the new one.
 */
static int write_and_reload(const struct plan *plan, const struct qcow2_switch *next)
{
    struct qcow2 *q = plan->ledger->q;
    uint8_t old[HDR_HEADER_LEN];
    int r = qcow2_meta_read(q, 0, old, sizeof(old));

    if (r < 0)
        return r;
    r = write_header(plan, next);
    if (r < 0 && !next->set_bitmaps && write_fields(q, old) == 0)
        return r;
    plan->ledger->switched = r == 0;
    if (r == 0)
        r = reload(plan, next);
    if (r < 0) {
        q->corrupt = true; /* what is in memory cannot be trusted */
        log_error("%s: changing the image failed at the last step: nothing is written any more; "
                  "open it again",
                  q->path);
    }
    return r;
}

int qcow2_switch_over(struct qcow2_ledger *ledger, const struct qcow2_switch *next)
{
    struct qcow2 *q = ledger->q;
    struct plan plan;
    int r;

    if (q->corrupt)
        return -EIO;
    r = plan_init(&plan, ledger);
    if (r == 0)
        r = make_plan(&plan);
    if (r == 0)
        r = write_blocks(&plan);
    if (r == 0 && plan.table_host != q->reftable.host)
        r = write_table(&plan);
    if (r == 0)
        r = qcow2_barrier(q);
    if (r == 0)
        r = write_and_reload(&plan, next);
    plan_done(&plan);
    return r;
}
