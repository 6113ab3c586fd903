/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/clusters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/refcount.h"
#include "block/qcow2/meta/space.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"

/* ---- new refcount blocks and tables ---------------------------------------------------------- */

static void extend_file(struct qcow2 *q, uint64_t end)
{
    q->file_end = max_u64(q->file_end, end);
    qcow2_file_grow(q, end);
}

/*
 * Make refcount block number `block`. The clusters that it counts are all free, since no block has
 * counted them so far. It goes into the first of them and counts itself, so that no other cluster
 * has to be taken for it.
 */
static int new_refblock(struct qcow2 *q, uint32_t block)
{
    uint64_t cluster = (uint64_t)block << q->refblock_bits;
    uint64_t host = cluster << q->cluster_bits;
    struct qcow2_refcount count;
    int r;

    if (qcow2_is_metadata(q, host, q->cluster_size))
        return qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    r = qcow2_table_zero(q, host, host >= q->file_end);
    if (r < 0)
        return r;
    r = qcow2_set_add(&q->metadata, cluster);
    if (r < 0)
        return r;
    extend_file(q, host + q->cluster_size);
    r = qcow2_refcount_find_in(q, host, cluster, &count);
    if (r < 0) {
        qcow2_set_remove(&q->metadata, cluster);
        return r;
    }
    /*
     * There is no wait between these changes: a flush that wrote the entry without the count would
     * leave the block uncounted.
     */
    qcow2_table_set(&q->reftable, block, host);
    qcow2_refcount_set(q, &count, 1);
    qcow2_slice_put(q, count.slice);
    return 0;
}

/* A larger refcount table, past all clusters that the present one can count. */
struct bigger_reftable {
    uint64_t cluster; /* first: refcount blocks, then the table */
    uint32_t nblocks;
    uint32_t table_clusters;
    struct qcow2_table table;
};

/*
 * The larger table begins at the first cluster that the present one cannot count:
 *
 *     | block | ... | block |  table ...  |
 *
 * It has as many blocks as it takes to count themselves and the table.
 */
static int plan_reftable(const struct qcow2 *q, struct bigger_reftable *plan)
{
    uint64_t per_cluster = q->cluster_size / sizeof(uint64_t);
    uint64_t per_block = 1ull << q->refblock_bits;
    uint64_t entries = q->reftable.n + max_u64(q->reftable.n / 2, per_cluster);
    uint64_t blocks;

    plan->table_clusters = (uint32_t)div_round_up(entries, per_cluster);
    blocks = 1;
    while (blocks * per_block < blocks + plan->table_clusters)
        blocks++;
    plan->nblocks = (uint32_t)blocks;
    plan->cluster = (uint64_t)q->reftable.n << q->refblock_bits;
    plan->table.n = (uint32_t)(plan->table_clusters * per_cluster);
    plan->table.host = (plan->cluster + blocks) << q->cluster_bits;
    if (plan->table.n * sizeof(uint64_t) > QCOW2_REFTABLE_BYTES_MAX ||
        q->reftable.n + blocks > plan->table.n || plan->table.host >= QCOW2_HOST_MAX)
        return -EFBIG;
    return 0;
}

static int write_refblocks(struct qcow2 *q, const struct bigger_reftable *plan)
{
    uint64_t left = plan->nblocks + plan->table_clusters;
    uint8_t *data = malloc(q->cluster_size);
    int r = 0;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        uint64_t n = min_u64(left, 1ull << q->refblock_bits);

        qcow2_refblock_fill(q->refcount_order, data, q->cluster_size, n);
        left -= n;
        r = qcow2_meta_write(q, (plan->cluster + i) << q->cluster_bits, data, q->cluster_size);
    }
    free(data);
    return r;
}

static int write_reftable(struct qcow2 *q, const struct bigger_reftable *plan)
{
    size_t len = plan->table.n * sizeof(uint64_t);
    uint8_t *data = malloc(len);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->table.n; i++)
        store_be64(data + i * sizeof(uint64_t), plan->table.entries[i]);
    r = qcow2_meta_write(q, plan->table.host, data, len);
    free(data);
    return r;
}

static int load_bigger(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table *table = &plan->table;
    int r = 0;

    table->entries = calloc(table->n, sizeof(uint64_t));
    table->dirty = calloc(div_round_up(table->n, 64ull * QCOW2_TABLE_PIECE), sizeof(uint64_t));
    if (!table->entries || !table->dirty)
        return -ENOMEM;
    memcpy(table->entries, q->reftable.entries, q->reftable.n * sizeof(uint64_t));
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        table->entries[q->reftable.n + i] = (plan->cluster + i) << q->cluster_bits;
        r = qcow2_set_add(&q->metadata, plan->cluster + i);
    }
    return r;
}

/*
 * The new table is complete and durable before the header points at it. It has the entries of the
 * present one, of which some may be in memory only, as are the blocks that they point at: so
 * everything that is dirty is written back first.
 */
static int switch_reftable(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table old = q->reftable;
    int r = qcow2_write_back(q);

    if (r == 0)
        r = write_refblocks(q, plan);
    if (r == 0)
        r = write_reftable(q, plan);
    if (r == 0)
        r = qcow2_barrier(q);
    if (r == 0)
        r = qcow2_write_reftable_pointer(q, plan->table.host, plan->table_clusters);
    if (r < 0)
        return r;
    q->reftable = plan->table;
    plan->table = (struct qcow2_table){0};
    extend_file(q, q->reftable.host + q->reftable.n * sizeof(uint64_t));
    qcow2_freed_add(&q->freed, qcow2_cluster_of(q, old.host),
                    qcow2_table_len(q, &old) >> q->cluster_bits, false);
    qcow2_table_done(&old);
    return 0;
}

static int grow_reftable(struct qcow2 *q)
{
    struct bigger_reftable plan = {0};
    int r = plan_reftable(q, &plan);
    uint64_t host = plan.cluster << q->cluster_bits;

    if (r == 0 &&
        qcow2_is_metadata(q, host, plan.table.host - host + qcow2_table_len(q, &plan.table)))
        r = qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    if (r == 0)
        r = load_bigger(q, &plan);
    if (r == 0)
        r = switch_reftable(q, &plan);
    for (uint32_t i = 0; i < plan.nblocks && r < 0; i++)
        qcow2_set_remove(&q->metadata, plan.cluster + i);
    qcow2_table_done(&plan.table);
    return r;
}

/* Make sure that a refcount block counts the cluster. */
static int ensure_counted(struct qcow2 *q, uint64_t cluster)
{
    uint64_t block = cluster >> q->refblock_bits;

    if (cluster >= QCOW2_HOST_MAX >> q->cluster_bits)
        return -EFBIG;
    while (block >= q->reftable.n) {
        int r = grow_reftable(q);

        if (r < 0)
            return r;
    }
    if ((q->reftable.entries[block] & QCOW2_OFF_MASK) == 0)
        return new_refblock(q, (uint32_t)block);
    return 0;
}

/* ---- taking whole clusters ------------------------------------------------------------------- */

/* Looking at a count takes about as long as copying so many bytes (co_turn). */
#define LOOK_COST 8u

/*
 * Take the first run of free clusters from `cluster` on, within the slice of its refcount. If there
 * is none, *ret_n is 0. *ret_next is the cluster where a search goes on. A run that begins before
 * q->file_end ends there at the latest, so that all of its clusters are fresh or none is.
 */
static int take_in_slice(struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *ret_cluster,
                         uint64_t *ret_n, uint64_t *ret_next)
{
    struct qcow2_refcount count;
    uint64_t base;
    uint64_t n = 0;
    int r = qcow2_refcount_find(q, cluster, &count);

    if (r < 0)
        return r;
    base = cluster - count.i;
    while (count.i < count.n && qcow2_refcount_get(q, &count) != 0)
        count.i++;
    *ret_cluster = base + count.i;
    if (*ret_cluster < qcow2_cluster_of(q, q->file_end))
        want = min_u64(want, qcow2_cluster_of(q, q->file_end) - *ret_cluster);
    for (; n < want && count.i < count.n && qcow2_refcount_get(q, &count) == 0; count.i++, n++) {
        uint64_t host = (base + count.i) << q->cluster_bits;

        if (qcow2_is_metadata(q, host, q->cluster_size)) {
            qcow2_slice_put(q, count.slice);
            return qcow2_mark_corrupt(q, "metadata is counted as free", host);
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        count.i = (unsigned)(*ret_cluster + i - base);
        qcow2_refcount_set(q, &count, 1);
    }
    *ret_n = n;
    *ret_next = n > 0 ? *ret_cluster + n : base + count.n;
    qcow2_slice_put(q, count.slice);
    return 0;
}

/* The length of the stock. A crash leaks at most so much. */
#define STOCK_BYTES (4ull << 20)

/*
 * A stock is taken after so many flushes in a row that came after few taken clusters (meta/flush).
 */
#define STOCK_ROUNDS 4u

/* How many clusters to take for the stock. */
static uint64_t stock_size(const struct qcow2 *q)
{
    return q->stock.short_rounds < STOCK_ROUNDS || q->lazy ? 0 : STOCK_BYTES >> q->cluster_bits;
}

/*
 * Take the first run of free clusters, up to `want` of them and those of a stock. The file is made
 * long enough for all of them now, so that its length becomes durable with their refcounts.
 */
static int take_run(struct qcow2 *q, uint64_t want, struct qcow2_stock *stock)
{
    uint64_t n = 0;

    while (n == 0) {
        uint64_t from = 0;
        uint64_t next = 0;
        /* There may be very many slices without a free cluster. */
        int r = co_turn((uint64_t)LOOK_COST << qcow2_slice_refcount_bits(q));

        if (r == 0)
            r = qcow2_space_find(q, &from);
        if (r == 0)
            r = ensure_counted(q, from);
        if (r == 0)
            r = take_in_slice(q, from, want + stock_size(q), &stock->first, &n, &next);
        if (r < 0)
            return r;
        qcow2_space_taken(q, from, n, next);
    }
    stock->n = n;
    qcow2_file_grow(q, (stock->first + n) << q->cluster_bits);
    return 0;
}

int qcow2_take_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                        bool *ret_fresh)
{
    struct qcow2_stock *stock = &q->stock;
    uint64_t host;
    int r;

    if (q->corrupt)
        return -EIO;
    r = stock->n == 0 ? take_run(q, want, stock) : 0;
    if (r < 0)
        return r;
    *ret_cluster = stock->first;
    *ret_n = min_u64(want, stock->n);
    stock->first += *ret_n;
    stock->n -= *ret_n;
    stock->taken += *ret_n;
    host = *ret_cluster << q->cluster_bits;
    *ret_fresh = host >= q->file_end;
    extend_file(q, host + (*ret_n << q->cluster_bits));
    return 0;
}

/* ---- space for compressed data --------------------------------------------------------------- */

/* Count up the cluster in which packed data ends, and return that end; 0 if there is none. */
static uint64_t packing_place(struct qcow2 *q)
{
    uint64_t host = q->packed_end;

    q->packed_end = 0;
    if (host == 0)
        return 0;
    return qcow2_refcount_up(q, qcow2_cluster_of(q, host)) == 0 ? host : 0;
}

/*
 * Take a cluster for data that does not fit into the one of `*host`. Unless it is the next one,
 * give up `*host`, and begin in the new cluster; `*host` is 0 if there is no place to go on from.
 */
static int continue_packing(struct qcow2 *q, uint64_t *host)
{
    uint64_t cluster;
    uint64_t n;
    bool fresh;
    int r = qcow2_take_clusters(q, 1, &cluster, &n, &fresh);

    if (*host && (r < 0 || cluster != qcow2_cluster_of(q, *host) + 1)) {
        qcow2_untake_clusters(q, qcow2_cluster_of(q, *host), 1);
        *host = 0;
    }
    if (r == 0 && *host == 0)
        *host = cluster << q->cluster_bits;
    return r;
}

int qcow2_take_bytes(struct qcow2 *q, uint64_t len, uint64_t *ret_host)
{
    uint64_t host = packing_place(q);
    int r = 0;

    if (!host || (host & (q->cluster_size - 1)) + len > q->cluster_size)
        r = continue_packing(q, &host);
    if (r == 0 && host + len > qcow2_packed_max(q)) {
        qcow2_untake_bytes(q, host, len);
        r = -EFBIG;
    }
    if (r < 0)
        return r;
    if (!is_aligned(host + len, q->cluster_size))
        q->packed_end = host + len;
    *ret_host = host;
    return 0;
}
