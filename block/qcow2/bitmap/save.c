/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How bitmaps follow the disk:
 *
 *   before the first write   request/bitmap_note marks them as in use in the file, durably, so that
 *                            every program takes them for out of date
 *   each write               request/bitmap_note notes it in memory
 *   when the image is closed what was noted is added to them here, and the image is switched
 *                            (switch/ledger.h) to a directory in which they are not in use
 *
 * Bitmaps stay in use if something cannot be noted or saved.
 */
#include "block/qcow2/bitmap/save.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/qcow2/bitmap/store.h"
#include "block/qcow2/format/bits.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/bitmap_note.h"
#include "block/qcow2/request/forget.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/* ---- saving ---------------------------------------------------------------------------------- */

/* Write a bitmap for a disk of `len` bytes, with what was noted if we have marked it. */
static int put_entry(struct qcow2_ledger *ledger, struct qcow2_bitmap_entry *entry, bool marked,
                     uint64_t len)
{
    struct qcow2 *q = ledger->q;
    struct qcow2_bitmap_change change = {.keep = true, .len = len, .old_len = q->block.len};
    struct qcow2_bits bits = {0};
    int r = 0;

    if (marked) {
        r = qcow2_bits_init(&bits, q->cluster_bits, entry->granularity_bits, q->block.len);
        if (r == 0)
            r = qcow2_bits_add(&bits, &q->tracking->written);
        change.added = &bits;
    }
    if (r == 0)
        r = qcow2_bitmap_put(ledger, entry, &change);
    qcow2_bits_done(&bits);
    return r;
}

int qcow2_bitmaps_put_all(struct qcow2_ledger *ledger, struct qcow2_switch *next)
{
    struct qcow2 *q = ledger->q;
    uint64_t len = align_up(next->size, BLOCK_SECTOR_SIZE);
    struct qcow2_bitmap_dir dir;
    int r = qcow2_bitmap_dir_load(q, &dir);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < dir.n && r == 0; i++) {
        struct qcow2_bitmap_entry *entry = &dir.list[i];
        bool marked = q->tracking && i < q->tracking->n && q->tracking->marked[i];

        if (!marked && (len == q->block.len || (entry->flags & QCOW2_BITMAP_IN_USE)))
            continue;
        r = put_entry(ledger, entry, marked, len);
        if (r == 0)
            entry->flags &= ~QCOW2_BITMAP_IN_USE;
        if (r != -EINVAL)
            continue;
        entry->flags |= QCOW2_BITMAP_IN_USE; /* its table is damaged */
        r = 0;
    }
    if (r == 0 && dir.n > 0)
        r = qcow2_bitmap_dir_put(ledger, &dir, next);
    qcow2_bitmap_dir_done(&dir);
    return r;
}

static int save(struct qcow2 *q, struct qcow2_ledger *ledger, uint64_t len)
{
    struct qcow2_switch next;
    int r = qcow2_ledger_load(ledger);

    if (r == 0)
        r = qcow2_switch_init(q, &next);
    if (r < 0)
        return r;
    next.size = len;
    r = qcow2_bitmaps_put_all(ledger, &next);
    return r < 0 ? r : qcow2_switch_over(ledger, &next);
}

void qcow2_bitmaps_saved(struct qcow2 *q)
{
    q->write_ready = false;
    qcow2_forget(q, QCOW2_FORGET_NOTES | QCOW2_FORGET_PLACES);
}

int qcow2_bitmaps_save(struct qcow2 *q, uint64_t len)
{
    struct qcow2_ledger *ledger;
    int r = qcow2_ledger_new(q, &ledger);

    if (r < 0)
        return r;
    r = save(q, ledger, len);
    qcow2_ledger_free(ledger);
    if (r == 0)
        qcow2_bitmaps_saved(q);
    return r;
}

int qcow2_bitmaps_settle(struct qcow2 *q)
{
    if (!q->tracking || q->corrupt)
        return 0;
    return qcow2_bitmaps_save(q, q->block.len);
}

/* ---- another length -------------------------------------------------------------------------- */

static int check_entry(const struct qcow2 *q, const struct qcow2_bitmap_entry *entry, uint64_t len,
                       struct err *err)
{
    uint64_t n = qcow2_bits_clusters(q->cluster_bits, entry->granularity_bits, len);

    if (entry->flags & QCOW2_BITMAP_IN_USE)
        return err_set(err, -ESTALE, "Bitmap '%s' is inconsistent and cannot be used", entry->name);
    if (n == 0)
        return err_set(err, -ENOTSUP, "Bitmap '%s': a disk without bytes cannot have bitmaps",
                       entry->name);
    if (n > QCOW2_BITMAP_BYTES_MAX >> q->cluster_bits)
        return err_set(err, -EFBIG,
                       "Bitmap '%s' doesn't satisfy the constraints: Too much space will be "
                       "occupied by the bitmap. Use larger granularity",
                       entry->name);
    return 0;
}

int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t len, bool *ret_any, struct err *err)
{
    struct qcow2_bitmap_dir dir = {0};
    int r = qcow2_bitmaps_settle(q);

    if (r == 0)
        r = qcow2_bitmap_dir_load(q, &dir);
    *ret_any = r == 0 && dir.n > 0;
    if (r == -EINVAL)
        return 0; /* the directory is damaged: the next write gives up the bitmaps */
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot read the bitmaps", q->path);
    for (uint32_t i = 0; i < dir.n && r == 0; i++)
        r = check_entry(q, &dir.list[i], len, err);
    qcow2_bitmap_dir_done(&dir);
    return r;
}
