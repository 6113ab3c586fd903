/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/find_places.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"

/*
 * The most that is read of tables of snapshots and bitmaps, which writing never changes: enough for
 * the L1 tables of a thousand snapshots of a disk of 1 TiB. In an image with more, writes are not
 * checked against the rest.
 */
#define BUDGET_BYTES (16u << 20)

struct finder {
    struct qcow2 *q;
    uint64_t budget;
};

static bool afford(struct finder *finder, uint64_t len)
{
    if (len > finder->budget) {
        if (finder->budget > 0)
            log_warn(
                "%s: too many snapshots or bitmaps to check writes against all of their tables",
                finder->q->path);
        finder->budget = 0;
        return false;
    }
    finder->budget -= len;
    return true;
}

/*
 * Add the active L2 tables, or the refcount blocks, that `table` points at. No other metadata may
 * be there, except that snapshots may use the same L2 tables.
 */
static int add_entries(struct qcow2 *q, const struct qcow2_table *table)
{
    size_t n = 0;
    int r;

    for (uint32_t i = 0; i < table->n; i++)
        n += (table->entries[i] & QCOW2_OFF_MASK) != 0;
    r = qcow2_set_reserve(&q->metadata, q->metadata.n + n);
    for (uint32_t i = 0; i < table->n && r == 0; i++) {
        uint64_t host = table->entries[i] & QCOW2_OFF_MASK;
        uint64_t cluster = qcow2_cluster_of(q, host);

        if (host == 0)
            continue;
        if (!is_aligned(host, q->cluster_size) || host >= QCOW2_HOST_MAX)
            return -EINVAL;
        if (qcow2_in_tables(q, host, q->cluster_size) || qcow2_set_has(&q->other_metadata, cluster))
            return -EEXIST;
        r = qcow2_set_add(&q->metadata, cluster);
    }
    return r;
}

/*
 * Add metadata that is neither active nor an L2 table. It may overlap its own kind, or lie outside
 * the file: writing makes that no worse, and the checker reports it.
 */
static int add_other(struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t end = host < q->file_end ? host + min_u64(len, q->file_end - host) : host;

    for (host = align_down(host, q->cluster_size); host < end; host += q->cluster_size) {
        uint64_t cluster = qcow2_cluster_of(q, host);
        int r;

        if (qcow2_in_tables(q, host, q->cluster_size) || qcow2_set_has(&q->metadata, cluster) ||
            qcow2_set_has(&q->snapshot_tables, cluster))
            return -EEXIST;
        r = qcow2_set_add(&q->other_metadata, cluster);
        if (r < 0 && r != -EEXIST)
            return r;
    }
    return 0;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

/* Add an L2 table of a snapshot. The active L2 tables, which may be the same, are added later. */
static int add_snapshot_table(struct qcow2 *q, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFF_MASK;
    uint64_t cluster = qcow2_cluster_of(q, host);
    int r;

    if (host == 0 || !is_aligned(host, q->cluster_size) || host >= q->file_end)
        return 0;
    if (qcow2_in_tables(q, host, q->cluster_size) || qcow2_set_has(&q->metadata, cluster) ||
        qcow2_set_has(&q->other_metadata, cluster))
        return -EEXIST;
    r = qcow2_set_add(&q->snapshot_tables, cluster);
    return r == -EEXIST ? 0 : r;
}

static int add_snapshot(struct finder *finder, const struct qcow2_snapshot *snapshot)
{
    struct qcow2 *q = finder->q;
    uint64_t len = snapshot->l1_n * sizeof(uint64_t);
    uint64_t *entries;
    int r;

    if (!afford(finder, len))
        return 0;
    r = qcow2_l1_read(q, snapshot->l1_host, snapshot->l1_n, &entries);
    if (r == -EIO)
        return 0; /* its L2 tables cannot be found */
    if (r < 0)
        return r;
    r = add_other(q, snapshot->l1_host, len);
    for (uint32_t i = 0; i < snapshot->l1_n && r == 0; i++)
        r = add_snapshot_table(q, entries[i]);
    free(entries);
    return r;
}

static int add_snapshots(struct finder *finder)
{
    struct qcow2_snaptable table;
    int r = qcow2_snaptable_read(finder->q, &table, NULL);

    if (r < 0)
        return r;
    if (table.n > 0)
        r = add_other(finder->q, table.host, table.len);
    for (uint32_t i = 0; i < table.n && r == 0; i++)
        r = add_snapshot(finder, &table.snapshots[i]);
    qcow2_snaptable_done(&table);
    return r;
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

static int add_bitmap_data(struct qcow2 *q, const struct qcow2_bitmap *bitmap)
{
    uint64_t len = bitmap->table_n * sizeof(uint64_t);
    uint64_t *entries = malloc(len + 1);
    int r = entries ? qcow2_meta_read(q, bitmap->table_host, entries, len) : -ENOMEM;

    for (uint32_t i = 0; i < bitmap->table_n && r == 0; i++) {
        uint64_t host;

        if (qcow2_bitmap_entry_ok(q, be64toh(entries[i]), &host) && host)
            r = add_other(q, host, q->cluster_size);
    }
    free(entries);
    return r;
}

static int add_bitmap(void *opaque, const struct qcow2_bitmap *bitmap)
{
    struct finder *finder = opaque;
    uint64_t len = bitmap->table_n * sizeof(uint64_t);
    int r;

    if (!range_fits(bitmap->table_host, len, finder->q->file_end) || !afford(finder, len))
        return 0;
    r = add_other(finder->q, bitmap->table_host, len);
    return r < 0 ? r : add_bitmap_data(finder->q, bitmap);
}

static int add_bitmaps(struct finder *finder)
{
    struct qcow2_bitmaps bitmaps;
    int r = qcow2_bitmaps_find(finder->q, &bitmaps);

    if (r == 0 && bitmaps.n > 0)
        r = add_other(finder->q, bitmaps.directory_host, bitmaps.directory_len);
    if (r == 0)
        r = qcow2_bitmaps_walk(finder->q, &bitmaps, add_bitmap, finder);
    return r == -EINVAL ? 0 : r; /* the first write gives up bitmaps that are damaged */
}

/* ---- all of it ------------------------------------------------------------------------------- */

int qcow2_find_places(struct qcow2 *q)
{
    struct finder finder = {.q = q, .budget = BUDGET_BYTES};
    int r = add_entries(q, &q->reftable);

    if (r == 0)
        r = add_bitmaps(&finder);
    if (r == 0)
        r = add_snapshots(&finder);
    return r < 0 ? r : add_entries(q, &q->l1);
}
