/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing:
 *
 *   1. a longer L1 table, if need be, in new space; the header points at it (switch/ledger.h)
 *   2. whatever the tables or the backing file show past the old end is made to read as zero
 *   3. preallocated clusters
 *      -- flush --
 *   4. the header says the new length; barrier. If there are bitmaps, it points at longer ones with
 *      the same write (switch/ledger.h)
 *
 * Until step 4 the disk has its old length, whatever lies past it.
 *
 * Shrinking builds tables without what is cut off and switches over to them, and to the new length,
 * with one write of the header (switch/ledger.h); then the file is cut after its last used
 * cluster.
 */
#include "block/qcow2/image/resize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/bitmap/save.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/prepare.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/punch.h"
#include "block/qcow2/switch/put.h"
#include "block/qcow2/switch/switch.h"
#include "block/qcow2/switch/tree.h"
#include "block/space.h"

static uint64_t l2_covers(const struct qcow2 *q)
{
    return 1ull << (q->cluster_bits + q->l2_bits);
}

/* ---- the L1 table ---------------------------------------------------------------------------- */

/* Write a longer L1 table beside the present one, and switch to it. */
static int switch_l1(struct qcow2 *q, struct qcow2_ledger *ledger, uint32_t n)
{
    uint64_t *entries = calloc(n, sizeof(uint64_t));
    struct qcow2_switch next;
    int r = qcow2_switch_init(q, &next);

    if (!entries)
        return -ENOMEM;
    for (uint32_t i = 0; i < q->l1.n; i++)
        entries[i] = q->l1.entries[i];
    if (r == 0 && q->l1.n > 0)
        r = qcow2_ledger_add(ledger, q->l1.host, q->l1.n * sizeof(uint64_t), -1);
    if (r == 0)
        r = qcow2_put_l1(ledger, entries, n, &next.l1_host);
    free(entries);
    next.l1_n = n;
    return r < 0 ? r : qcow2_switch_over(ledger, &next);
}

int qcow2_grow_l1(struct qcow2 *q, uint64_t n)
{
    uint64_t disk_len = q->block.len;
    struct qcow2_ledger *ledger;
    int r;

    if (n <= q->l1.n)
        return 0;
    if (n > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return -EFBIG;
    r = qcow2_ledger_new(q, &ledger);
    if (r < 0)
        return r;
    r = qcow2_ledger_load(ledger);
    if (r == 0)
        r = switch_l1(q, ledger, (uint32_t)n);
    qcow2_ledger_free(ledger);
    q->block.len = disk_len; /* may be longer than the header says */
    return r;
}

/* ---- what is past the old end ---------------------------------------------------------------- */

/*
 * Let the disk read as zero from its old end, `off`, on. Else it would show old contents of the
 * cluster in which it ended, clusters past the end that the tables have up to `covered`, and what a
 * longer backing file has there.
 */
static int clear_tail(struct qcow2 *q, uint64_t off, uint64_t covered)
{
    uint64_t backing_len = q->block.backing ? q->block.backing->len : 0;
    uint64_t end = min_u64(q->block.len, max_u64(covered, backing_len));
    struct qcow2_extent extent;
    int r;

    if (off >= end)
        return 0;
    r = qcow2_map(q, off, 1, &extent); /* loads what tells whether it reads as zero already */
    return r < 0 ? r : q->block.driver->write_zeroes(&q->block, off, end - off, BLOCK_REQ_UNMAP);
}

/* ---- preallocation --------------------------------------------------------------------------- */

/* Fill the space of new clusters, which nothing reads yet. */
static int fill_new(struct qcow2 *q, const struct qcow2_alloc *alloc, enum block_prealloc prealloc)
{
    uint64_t host = alloc->host + (alloc->start & (q->cluster_size - 1));
    uint64_t len = alloc->end - alloc->start;

    if (prealloc != BLOCK_PREALLOC_METADATA)
        return block_take_space(q->data, host, len, prealloc);
    return alloc->fresh ? 0 : qcow2_data_zero(q, host, len, false);
}

/*
 * Let the file have all clusters that were taken, also those without a write, before any table
 * points at them: the flush that writes the table makes the length durable first.
 */
static int extend_file(struct qcow2 *q)
{
    uint64_t len;
    int r = file_get_len(q->block.file, &len);

    if (r < 0 || len >= q->file_end)
        return r;
    r = qcow2_file_set_len(q, q->file_end);
    return r == -ENOTSUP ? 0 : r; /* a block device has one length */
}

/* Give every cluster from `off` on, which reads as zero, a place of its own. */
static int preallocate(struct qcow2 *q, uint64_t off, enum block_prealloc prealloc)
{
    uint64_t end = align_up(q->block.len, q->cluster_size);
    int r = 0;

    off = align_up(off, q->cluster_size);
    while (r == 0 && off < end) {
        struct qcow2_alloc alloc = {0};

        r = qcow2_bound_dirty(q);
        if (r == 0)
            r = qcow2_alloc_begin(q, off, end - off, &alloc);
        if (r < 0)
            return r;
        if (alloc.n == 0) {
            off += q->cluster_size;
            continue;
        }
        r = fill_new(q, &alloc, prealloc);
        if (r == 0)
            r = extend_file(q);
        if (r == 0)
            r = qcow2_alloc_finish(q, &alloc);
        if (r < 0)
            qcow2_alloc_abort(q, &alloc);
        off = alloc.end;
    }
    return r;
}

/* ---- shrinking ------------------------------------------------------------------------------- */

/* Replace the L2 table that maps the new end, if there is one, by a copy that ends there. */
static int cut_l2(struct qcow2 *q, struct qcow2_ledger *ledger, uint64_t len, uint64_t *entry)
{
    uint64_t clusters = div_round_up(len, q->cluster_size);
    size_t keep = (clusters & ((1ull << q->l2_bits) - 1)) << q->l2_entry_bits;
    uint64_t cut = 0;
    uint8_t *table;
    int r;

    if (keep == 0 || (*entry & QCOW2_OFF_MASK) == 0)
        return 0;
    table = malloc(q->cluster_size);
    if (!table)
        return -ENOMEM;
    r = qcow2_meta_read(q, *entry & QCOW2_OFF_MASK, table, q->cluster_size);
    memset(table + keep, 0, q->cluster_size - keep);
    if (r == 0)
        r = qcow2_tree_add(ledger, entry, 1, QCOW2_TREE_TABLES | QCOW2_TREE_DATA, -1);
    if (r == 0)
        r = qcow2_put(ledger, table, q->cluster_size, &cut);
    free(table);
    *entry = cut | QCOW2_COPIED;
    return r < 0 ? r : qcow2_tree_add(ledger, entry, 1, QCOW2_TREE_DATA, 1);
}

static int cut_tree(struct qcow2 *q, struct qcow2_ledger *ledger, uint64_t len, uint64_t *entries,
                    uint32_t keep)
{
    int r = 0;

    if (q->l1.n > keep)
        r = qcow2_tree_add(ledger, entries + keep, q->l1.n - keep,
                           QCOW2_TREE_TABLES | QCOW2_TREE_DATA, -1);
    if (r == 0 && keep > 0)
        r = cut_l2(q, ledger, len, &entries[keep - 1]);
    if (r < 0 || q->l1.n == 0)
        return r;
    return qcow2_ledger_add(ledger, q->l1.host, q->l1.n * sizeof(uint64_t), -1);
}

/* Switch to tables without clusters from `keep` on, and to a disk of `len` bytes. */
static int switch_to_less(struct qcow2 *q, struct qcow2_ledger *ledger, uint64_t keep, uint64_t len)
{
    uint32_t keep_n = (uint32_t)min_u64(div_round_up(keep, l2_covers(q)), q->l1.n);
    uint32_t n = (uint32_t)div_round_up(len, l2_covers(q));
    uint64_t *entries = malloc((max_u64(n, q->l1.n) + 1) * sizeof(uint64_t));
    struct qcow2_switch next;
    int r = qcow2_switch_init(q, &next);

    if (!entries)
        return -ENOMEM;
    memcpy(entries, q->l1.entries, q->l1.n * sizeof(uint64_t));
    if (r == 0)
        r = cut_tree(q, ledger, keep, entries, keep_n);
    for (uint32_t i = keep_n; i < n; i++)
        entries[i] = 0;
    if (r == 0)
        r = qcow2_put_l1(ledger, entries, n, &next.l1_host);
    free(entries);
    if (r < 0)
        return r;
    next.l1_n = n;
    next.size = len;
    if (len != q->block.len)
        r = qcow2_bitmaps_put_all(ledger, &next);
    return r < 0 ? r : qcow2_switch_over(ledger, &next);
}

/*
 * Cut once. The new tables lie in space that the old state did not use, so maybe at the end of the
 * file: *move_from says from where on, and another round moves them to the front. *switched becomes
 * true once the file has less, durably.
 */
static int cut_once(struct qcow2 *q, uint64_t keep, uint64_t len, uint64_t *move_from,
                    bool *switched)
{
    struct qcow2_ledger *ledger;
    int r = qcow2_ledger_new(q, &ledger);

    if (r < 0)
        return r;
    ledger->move_from = *move_from;
    r = qcow2_ledger_load(ledger);
    if (r == 0)
        r = switch_to_less(q, ledger, keep, len);
    *switched |= ledger->switched;
    if (r == 0) {
        *move_from = qcow2_new_end(ledger);
        qcow2_punch_unused(ledger);
        r = qcow2_cut_file(ledger);
    }
    qcow2_ledger_free(ledger);
    return r;
}

/*
 * Forget all clusters from `keep` on, and set the disk's length. *switched: the file does, even if
 * something fails afterwards.
 */
static int cut(struct qcow2 *q, uint64_t keep, uint64_t len, bool *switched)
{
    uint64_t move_from = UINT64_MAX;
    int r;

    *switched = false;
    r = cut_once(q, keep, len, &move_from, switched);
    if (r == 0 && move_from < UINT64_MAX)
        r = cut_once(q, keep, len, &move_from, switched);
    return r;
}

int qcow2_make_empty(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);
    bool is_empty;
    int r = cut(q, 0, block->len, &is_empty);

    /* The disk no longer shows what an external data file has; its space could be used again. */
    if (r == 0 && qcow2_has_data_file(q))
        r = qcow2_data_zero_fast(q, 0, align_up(block->len, q->cluster_size), true);
    if (r == 0 || r == -EOPNOTSUPP || !is_empty)
        return r == -EOPNOTSUPP ? 0 : r;
    log_warn("%s: is empty now, but its space could not be given back (error %d)", q->path, -r);
    return 0;
}

/* Give an external data file the length of the disk. */
static int set_data_len(struct qcow2 *q, uint64_t len)
{
    return !qcow2_has_data_file(q) || q->data->fixed_len ? 0 : file_truncate(q->data, len);
}

static int shrink(struct qcow2 *q, uint64_t len, struct err *err)
{
    bool switched;
    int r = cut(q, len, len, &switched);

    if (r == 0)
        qcow2_bitmaps_saved(q);
    if (r == 0)
        r = set_data_len(q, len);
    return r < 0 ? err_set_errno(err, r, "%s: cannot resize", q->path) : 0;
}

/* ---- growing --------------------------------------------------------------------------------- */

static int write_size_field(struct qcow2 *q, uint64_t len)
{
    uint8_t data[8];
    int r;

    store_be64(data, len);
    r = qcow2_meta_write(q, HDR_SIZE, data, sizeof(data));
    return r < 0 ? r : qcow2_barrier(q);
}

/*
 * Write the new length. If that fails, the old one is put back; if that fails too, the header may
 * say either, and nothing is written any more.
 */
static int write_size(struct qcow2 *q, uint64_t len, uint64_t old_len)
{
    int r = qcow2_barrier(q);

    if (r < 0)
        return r;
    r = write_size_field(q, len);
    if (r < 0 && write_size_field(q, old_len) < 0)
        q->corrupt = true;
    return r;
}

/*
 * Do everything but the header: the disk in memory has its new length, the one in the file the old
 * one.
 */
static int prepare_growth(struct qcow2 *q, uint64_t old, enum block_prealloc prealloc)
{
    uint64_t covered = (uint64_t)q->l1.n * l2_covers(q);
    int r = qcow2_grow_l1(q, div_round_up(q->block.len, l2_covers(q)));

    if (q->raw_data && prealloc == BLOCK_PREALLOC_OFF)
        prealloc = BLOCK_PREALLOC_METADATA; /* in a raw data file each cluster has its place */
    if (r == 0)
        r = set_data_len(q, q->block.len);
    if (r == 0)
        r = clear_tail(q, old, covered);
    if (r == 0 && prealloc != BLOCK_PREALLOC_OFF)
        r = preallocate(q, old, prealloc);
    return r < 0 ? r : qcow2_flush(q);
}

/* Switch to the new length and, with the same write of the header, to longer bitmaps. */
static int switch_size(struct qcow2 *q, uint64_t len, uint64_t old)
{
    q->block.len = old;
    return qcow2_bitmaps_save(q, len);
}

static int grow(struct qcow2 *q, uint64_t len, enum block_prealloc prealloc, bool bitmaps,
                struct err *err)
{
    uint64_t old = q->block.len;
    bool switched;
    int r;

    q->block.len = len;
    r = prepare_growth(q, old, prealloc);
    if (r == 0)
        r = bitmaps ? switch_size(q, len, old) : write_size(q, len, old);
    if (r == 0)
        return 0;
    q->block.len = old;
    if (r != -EFBIG && !q->corrupt && cut(q, old, old, &switched) < 0)
        log_warn("%s: space that was meant for a longer disk is still taken", q->path);
    if (r == -EFBIG)
        return err_set(err, r, "%s: the image size is too large for clusters of %llu bytes",
                       q->path, (unsigned long long)q->cluster_size);
    return err_set_errno(err, r, "%s: cannot resize", q->path);
}

/* ---- both ------------------------------------------------------------------------------------ */

static int check_snapshots(struct qcow2 *q, struct err *err)
{
    uint8_t n[4];
    int r = qcow2_meta_read(q, HDR_NB_SNAPSHOTS, n, sizeof(n));

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read", q->path);
    /* Version 2 does not say how long the disk was when a snapshot was taken. */
    if (q->version < 3 && load_be32(n) > 0)
        return err_set(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
    return 0;
}

int qcow2_resize(struct block *block, uint64_t len, enum block_prealloc prealloc, struct err *err)
{
    struct qcow2 *q = qcow2_of(block);
    bool bitmaps = false;
    int r;

    len = align_up(len, BLOCK_SECTOR_SIZE);
    if (len == block->len)
        return 0;
    r = check_snapshots(q, err);
    if (r == 0)
        r = qcow2_bitmaps_check_resize(q, len, &bitmaps, err);
    if (r < 0)
        return r;
    r = qcow2_prepare_write(q);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot be written", q->path);
    if (len > block->len)
        return grow(q, len, prealloc, bitmaps, err);
    return shrink(q, len, err);
}
