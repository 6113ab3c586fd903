/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of metadata are made in memory only, and reach the file here, all together:
 *
 *   1. refcount blocks          count all clusters that the next steps point at
 *      -- barrier --            if the next step has something to write
 *   2. refcount table           points at refcount blocks
 *      -- barrier --            also makes the guest's data durable; left out if no count was
 *                               written and clusters read the same without their data
 *   3. L2 tables                point at data
 *      -- barrier --            if the next step has something to write
 *   4. L1 table                 points at L2 tables
 *      -- barrier --
 *   5. freed clusters are unreferenced now and are counted down, in memory
 *
 * Whatever step a crash interrupts, no entry in the file points at something that is not there yet
 * or is not counted: at worst clusters are counted that nothing refers to. Requests go on
 * meanwhile, so a flush writes a copy of what was dirty at one moment: the places that L2 entries
 * in the copy point at were written, and counted, before that moment.
 *
 * With lazy refcounts steps 1 and 2 are left out until the image is closed or too much is waiting.
 * The dirty bit in the header is set before an entry is written whose count is missing in the file:
 * the program that opens the image after a crash counts anew.
 */
#include "block/qcow2/meta/flush.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/refcount.h"
#include "block/qcow2/qcow2.h"

/* Dirty metadata to be written in one step: pieces of one size, in ascending order. */
struct batch {
    size_t piece;
    unsigned n;
    uint64_t *hosts;
    uint8_t *data;               /* n pieces */
    struct qcow2_slice **slices; /* REFBLOCK and L2: pinned until they are written */
    struct qcow2_table *table;   /* L1 and refcount table */
};

enum step { STEP_REFBLOCKS, STEP_REFTABLE, STEP_L2, STEP_L1, STEPS };

static int batch_reserve(struct batch *batch, size_t piece, unsigned n)
{
    batch->piece = piece;
    batch->n = n;
    if (n == 0)
        return 0;
    batch->hosts = malloc(n * sizeof(*batch->hosts));
    batch->data = malloc(n * piece);
    return batch->hosts && batch->data ? 0 : -ENOMEM;
}

/* ---- a copy of what is dirty ----------------------------------------------------------------- */

static int copy_slices(struct qcow2 *q, enum qcow2_meta kind, struct batch *batch)
{
    unsigned n;
    int r;

    if (q->cache.ndirty[kind] == 0)
        return 0;
    r = qcow2_cache_take_dirty(q, kind, &batch->slices, &n);
    if (r < 0)
        return r;
    r = batch_reserve(batch, qcow2_slice_size(q), n);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < n; i++) {
        batch->hosts[i] = batch->slices[i]->host;
        memcpy(batch->data + i * batch->piece, batch->slices[i]->data, batch->piece);
    }
    return 0;
}

static unsigned table_pieces(const struct qcow2_table *table)
{
    return (unsigned)div_round_up(table->n, QCOW2_TABLE_PIECE);
}

static bool piece_is_dirty(const struct qcow2_table *table, unsigned i)
{
    return table->dirty[i / 64] & (1ull << (i % 64));
}

static void copy_piece(const struct qcow2_table *table, unsigned i, uint8_t *data)
{
    unsigned first = i * QCOW2_TABLE_PIECE;

    for (unsigned n = 0; n < QCOW2_TABLE_PIECE; n++)
        store_be64(data + n * sizeof(uint64_t),
                   first + n < table->n ? table->entries[first + n] : 0);
}

/*
 * Pieces are 512 bytes of a table that begins at a cluster: the last one may reach past the table's
 * end, never past its cluster.
 */
static int copy_table(struct qcow2_table *table, struct batch *batch)
{
    size_t piece = QCOW2_TABLE_PIECE * sizeof(uint64_t);
    unsigned pieces = table_pieces(table);
    unsigned n = 0;
    int r;

    if (!table->any_dirty)
        return 0;
    for (unsigned i = 0; i < pieces; i++)
        n += piece_is_dirty(table, i);
    r = batch_reserve(batch, piece, n);
    if (r < 0 || n == 0)
        return r;
    batch->table = table;
    n = 0;
    for (unsigned i = 0; i < pieces; i++) {
        if (!piece_is_dirty(table, i))
            continue;
        batch->hosts[n] = table->host + i * piece;
        copy_piece(table, i, batch->data + n * piece);
        n++;
    }
    memset(table->dirty, 0, div_round_up(pieces, 64) * sizeof(*table->dirty));
    table->any_dirty = false;
    return 0;
}

static int copy_dirty(struct qcow2 *q, bool counts, struct batch batches[STEPS])
{
    int r = counts ? copy_slices(q, QCOW2_REFBLOCK, &batches[STEP_REFBLOCKS]) : 0;

    if (r == 0 && counts)
        r = copy_table(&q->reftable, &batches[STEP_REFTABLE]);
    if (r == 0)
        r = copy_slices(q, QCOW2_L2, &batches[STEP_L2]);
    if (r == 0)
        r = copy_table(&q->l1, &batches[STEP_L1]);
    return r;
}

/* Slices are written only into active L2 tables and refcount blocks that no snapshot uses. */
static int check_slices(struct qcow2 *q, const struct batch *batch)
{
    for (unsigned i = 0; i < batch->n; i++)
        if (!qcow2_may_write_table(q, batch->hosts[i]))
            return qcow2_mark_corrupt(q, "a table is about to overwrite something else",
                                      batch->hosts[i]);
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Pieces that are adjacent in the file are adjacent in the copy, and are written together. */
static int write_batch(struct qcow2 *q, const struct batch *batch)
{
    unsigned first = 0;
    int r = 0;

    while (r == 0 && first < batch->n) {
        unsigned end = first + 1;

        while (end < batch->n && batch->hosts[end] == batch->hosts[end - 1] + batch->piece)
            end++;
        r = qcow2_meta_write(q, batch->hosts[first], batch->data + first * batch->piece,
                             (end - first) * batch->piece);
        first = end;
    }
    return r;
}

/* Must all that was written before be durable before this step? */
static bool needs_barrier(const struct batch batches[STEPS], int step, bool data_first)
{
    switch (step) {
    case STEP_REFBLOCKS:
        return false;
    case STEP_L2:
        return data_first || batches[STEP_REFBLOCKS].n > 0 || batches[STEP_REFTABLE].n > 0;
    default: /* the step may point at new refcount blocks or L2 tables */
        return true;
    }
}

static int write_all(struct qcow2 *q, const struct batch batches[STEPS], bool data_first)
{
    int r = 0;

    for (int i = 0; i < STEPS && r == 0; i++) {
        if (batches[i].n == 0)
            continue;
        if (needs_barrier(batches, i, data_first))
            r = qcow2_barrier(q);
        if (r == 0)
            r = write_batch(q, &batches[i]);
    }
    return r < 0 ? r : qcow2_barrier(q);
}

static void batch_done(struct qcow2 *q, struct batch *batch, bool written)
{
    unsigned nslices = batch->slices ? batch->n : 0;

    for (unsigned i = 0; i < nslices; i++) {
        if (!written)
            qcow2_slice_dirty(q, batch->slices[i]);
        qcow2_slice_put(q, batch->slices[i]);
    }
    if (batch->table && !written) {
        for (unsigned i = 0; i < batch->n; i++) {
            uint64_t piece = (batch->hosts[i] - batch->table->host) / batch->piece;

            batch->table->dirty[piece / 64] |= 1ull << (piece % 64);
        }
        batch->table->any_dirty = true;
    }
    free(batch->slices);
    free(batch->hosts);
    free(batch->data);
}

/* If refcounts will be missing in the file, set the dirty bit before anything else is written. */
static int defer_counts(struct qcow2 *q)
{
    int r;

    if (q->counts_deferred || (q->cache.ndirty[QCOW2_REFBLOCK] == 0 && !q->reftable.any_dirty))
        return 0;
    r = qcow2_set_dirty(q, true);
    q->counts_deferred = r == 0;
    return r;
}

/* If at most so many clusters are taken between two flushes, a stock is worth while. */
#define SHORT_ROUND 8u

static void count_round(struct qcow2_stock *stock)
{
    if (stock->taken > SHORT_ROUND)
        stock->short_rounds = 0;
    else if (stock->taken > 0)
        stock->short_rounds++;
    stock->taken = 0;
}

/*
 * Write back what is dirty, refcounts only with `counts`. With q->writing_back held. If it fails,
 * everything is dirty again and the next flush starts from the beginning; after a failed barrier no
 * flush can succeed any more (file_sync).
 */
static int write_back_locked(struct qcow2 *q, bool counts)
{
    struct batch batches[STEPS] = {0};
    struct qcow2_freed freed;
    bool data_first;
    int r;

    if (q->corrupt)
        return -EIO;
    r = counts ? 0 : defer_counts(q);
    if (r < 0)
        return r;
    count_round(&q->stock);
    data_first = q->data_first;
    q->data_first = false;
    freed = q->freed;
    q->freed = (struct qcow2_freed){0};
    r = copy_dirty(q, counts, batches);
    if (r == 0)
        r = check_slices(q, &batches[STEP_REFBLOCKS]);
    if (r == 0)
        r = check_slices(q, &batches[STEP_L2]);
    if (r == 0)
        r = write_all(q, batches, data_first);
    for (int i = 0; i < STEPS; i++)
        batch_done(q, &batches[i], r == 0);
    if (r < 0)
        q->data_first = true;
    qcow2_freed_move(r == 0 ? &q->unreferenced : &q->freed, &freed);
    return r;
}

int qcow2_write_back(struct qcow2 *q)
{
    int r;

    co_mutex_lock(&q->writing_back);
    r = write_back_locked(q, true);
    co_mutex_unlock(&q->writing_back);
    return r;
}

int qcow2_settle(struct qcow2 *q)
{
    bool late = q->counts_deferred || q->stock.n > 0;
    int r;

    if (q->corrupt)
        return q->counts_deferred ? -EIO : 0;
    qcow2_stock_return(q);
    r = late ? qcow2_write_back(q) : 0;
    if (r == 0 && q->counts_deferred) {
        r = qcow2_set_dirty(q, false);
        q->counts_deferred = false; /* the refcounts are in the file, whatever became of the mark */
    }
    return r;
}

static void return_stock(struct qcow2 *q)
{
    if (!q->stock.give_back)
        return;
    co_mutex_lock(&q->lock);
    qcow2_stock_return(q);
    co_mutex_unlock(&q->lock);
}

int qcow2_flush(struct qcow2 *q)
{
    uint64_t mine = ++q->flushes_begun;
    int r;

    return_stock(q);

    /*
     * Callers that come while a flush is under way wait for it, and then share the next one, which
     * begins after all of them have called.
     */
    co_mutex_lock(&q->writing_back);
    if (q->flushes_covered < mine) {
        uint64_t covered = q->flushes_begun;

        q->flush_result = write_back_locked(q, !q->lazy);
        q->flushes_covered = covered;
    }
    r = q->flush_result;
    co_mutex_unlock(&q->writing_back);

    /*
     * This takes q->lock, so q->writing_back is not held any more: grow_reftable waits for it while
     * q->lock is held (meta/clusters).
     */
    qcow2_release(q);
    return r;
}

int qcow2_bound_dirty(struct qcow2 *q)
{
    unsigned dirty = q->cache.ndirty[QCOW2_REFBLOCK] + q->cache.ndirty[QCOW2_L2];
    int r;

    if (dirty <= q->cache.limit / 2)
        return 0;
    r = qcow2_flush(q);
    return r == 0 && q->cache.ndirty[QCOW2_REFBLOCK] > q->cache.limit / 4 ? qcow2_write_back(q) : r;
}

static bool is_dirty(const struct qcow2 *q)
{
    return q->cache.ndirty[QCOW2_REFBLOCK] > 0 || q->cache.ndirty[QCOW2_L2] > 0 ||
           q->l1.any_dirty || q->reftable.any_dirty || q->freed.n > 0;
}

int qcow2_finish(struct qcow2 *q)
{
    int r = 0;

    /* Flush twice: the first flush counts down freed clusters, the second writes their counts. */
    for (int i = 0; r == 0 && i < 2 && is_dirty(q); i++)
        r = qcow2_flush(q);
    if (r == 0)
        r = qcow2_settle(q);
    if (r == 0)
        qcow2_file_shrink(q);
    return r;
}
