/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/prepare.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/qcow2/format/header.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/find_places.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/refcount.h"
#include "block/qcow2/meta/space.h"
#include "block/qcow2/meta/table.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/bitmap_note.h"

/* ---- where the file ends --------------------------------------------------------------------- */

/* The most pieces of data past the counted clusters that a search for the file's end looks at. */
#define STRAY_PIECES_MAX 64u

/* The end of the last data from `off` on; `len`, the file's length, if that is hard to find. */
static uint64_t data_end(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t last = off;

    for (unsigned i = 0; i < STRAY_PIECES_MAX; i++) {
        uint64_t end;
        bool hole = file_hole_at(q->block.file, off, &end);

        if (end >= len)
            return hole ? last : len;
        if (!hole)
            last = end;
        off = end;
    }
    return len;
}

/*
 * Set q->file_end before a hole after all that is in use, which qcow2_file_grow added before a
 * crash. With q->lock held.
 */
static void file_find_end(struct qcow2 *q)
{
    uint64_t cluster;
    uint64_t len;
    uint64_t end;

    if (q->file_grown || q->block.file->fixed_len || qcow2_refcount_end(q, &cluster) < 0 ||
        file_get_len(q->block.file, &len) < 0)
        return;
    end = align_up(data_end(q, cluster << q->cluster_bits, len), q->cluster_size);
    if (end >= q->file_end || qcow2_is_metadata(q, end, q->file_end - end))
        return;
    q->file_end = end;
    q->file_grown = true;
}

/* ---- the first write ------------------------------------------------------------------------- */

/*
 * Autoclear bits say that something in the image matches the guest's data. They are cleared before
 * the first change of the data, except where we keep what they say true: a raw data file stays raw,
 * and bitmaps that follow the disk are marked as in use here (request/bitmap_note) and saved when
 * the image is closed (bitmap/save).
 */
static int clear_autoclear(struct qcow2 *q)
{
    uint64_t keep = q->raw_data ? QCOW2_AUTOCLEAR_RAW_DATA : 0;
    bool known = false;
    int r = 0;

    if (q->autoclear & QCOW2_AUTOCLEAR_BITMAPS)
        r = qcow2_bitmaps_begin(q, &known);
    if (known)
        keep |= QCOW2_AUTOCLEAR_BITMAPS;
    return r < 0 ? r : qcow2_set_autoclear(q, keep);
}

static int become_writable(struct qcow2 *q)
{
    int r = qcow2_barrier_at_first(q);

    if (r == 0 && !q->reftable.entries)
        r = qcow2_table_load(q, &q->reftable, NULL);
    if (r < 0)
        return r;
    r = qcow2_find_places(q);
    if (r == -EEXIST || r == -EINVAL)
        r = qcow2_mark_corrupt(q, "metadata tables overlap or lie at odd places", 0);
    if (r == 0)
        r = clear_autoclear(q);
    if (r < 0) {
        qcow2_forget_places(q);
        return r;
    }
    file_find_end(q);
    qcow2_space_reset(q);
    q->write_ready = true;
    return 0;
}

int qcow2_prepare_write(struct qcow2 *q)
{
    int r = 0;

    if (q->corrupt)
        return -EIO;
    if (qcow2_has_data_file(q) && !q->block.data_file)
        return -ENXIO; /* BLOCK_OPEN_ALONE: the data file is not open, and q->data another one */
    if (q->write_ready)
        return 0;
    co_mutex_lock(&q->lock);
    if (!q->write_ready)
        r = q->corrupt ? -EIO : become_writable(q);
    co_mutex_unlock(&q->lock);
    return r;
}

/* ---- each write ------------------------------------------------------------------------------ */

int qcow2_begin_write(struct qcow2 *q, uint64_t off, uint64_t len)
{
    int r = qcow2_prepare_write(q);

    if (r < 0)
        return r;
    qcow2_bitmaps_note(q, off, len);
    return qcow2_bound_dirty(q);
}

void qcow2_hold_clusters(struct qcow2 *q, struct range *range, uint64_t off, uint64_t len)
{
    uint64_t start = align_down(off, q->cluster_size);

    range_acquire(&q->ranges, range, start, align_up(off + len, q->cluster_size) - start, true);
}
