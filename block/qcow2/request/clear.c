/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/clear.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/clear_entries.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/partial.h"
#include "block/qcow2/request/prepare.h"
#include "block/qcow2/request/write.h"

/* Clearing the entries of a slice takes about as long as copying so many bytes (co_turn). */
#define CLEAR_COST (64u << 10)

/*
 * Write zeroes as data, to a part of a unit, or to units that the tables cannot mark as zero. What
 * reads as zero is left out, but not in a raw data file: after a power cut it may have data where
 * the tables know of none.
 */
static int write_zero_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    struct iovec iov = {(void *)(uintptr_t)file_zeroes, 0};
    int r = 0;

    for (; r == 0 && len > 0; off += iov.iov_len, len -= iov.iov_len) {
        iov.iov_len = (size_t)min_u64(len, FILE_ZEROES_LEN);
        if (q->raw_data || how == QCOW2_CLEAR_ZERO_OWN || !qcow2_reads_zero(q, off, iov.iov_len))
            r = qcow2_write(&q->block, off, iov.iov_len, &iov, 1);
    }
    return r;
}

/* Zero the range in an external data file that is a raw image as well. */
static int zero_raw_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    return q->raw_data ? qcow2_data_zero(q, off, min_u64(len, q->block.len - off),
                                         !qcow2_clear_keeps_space(how) && q->block.discard)
                       : 0;
}

/* Punch a hole in an external data file: its clusters are not counted, so nothing else does it. */
static int punch_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    int r;

    if (!qcow2_has_data_file(q) || q->raw_data || qcow2_clear_keeps_space(how) ||
        !q->block.discard || len < q->cluster_size)
        return 0;
    r = qcow2_data_zero_fast(q, off, len, true);
    return r == -EOPNOTSUPP ? 0 : r; /* a hint */
}

/* Clear one piece for qcow2_clear_entries. The caller holds its clusters exclusively. */
static int clear_held(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    int r = zero_raw_data(q, off, len, how);

    if (r == 0)
        r = qcow2_clear_entries(q, off, len, how);
    return r == 0 ? punch_data(q, off, len, how) : r;
}

static int clear_piece(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    struct range range;
    int r;

    qcow2_hold_clusters(q, &range, off, len);
    r = clear_held(q, off, len, how);
    range_release(&q->ranges, &range);
    if (r == -ENOTSUP)
        r = write_zero_data(q, off, min_u64(len, q->block.len - off), how);
    return r;
}

/* Clear [off, end), whole units. */
static int clear_range(struct qcow2 *q, uint64_t off, uint64_t end, enum qcow2_clear how)
{
    int r = 0;

    while (r == 0 && off < end) {
        uint64_t len = qcow2_clear_piece(q, off, end - off);

        r = co_turn(CLEAR_COST);
        if (r == 0)
            r = qcow2_bound_dirty(q);
        if (r == 0)
            r = clear_piece(q, off, len, how);
        off += len;
    }
    return r;
}

/* The units that lie in [off, off + len) as a whole; the disk's end completes the last one. */
static void whole_units(const struct qcow2 *q, uint64_t off, uint64_t len, uint64_t unit,
                        uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t end = off + len;

    *ret_first = align_up(off, unit);
    *ret_end = end == q->block.len ? align_up(end, unit) : align_down(end, unit);
    if (*ret_end < *ret_first)
        *ret_end = *ret_first;
}

/* ---- requests -------------------------------------------------------------------------------- */

static enum qcow2_clear how_to_zero(unsigned flags)
{
    if (flags & BLOCK_REQ_OWN)
        return QCOW2_CLEAR_ZERO_OWN;
    return flags & BLOCK_REQ_UNMAP ? QCOW2_CLEAR_ZERO_UNMAP : QCOW2_CLEAR_ZERO;
}

int qcow2_write_zeroes(struct block *block, uint64_t off, uint64_t len, unsigned flags)
{
    enum qcow2_clear how = how_to_zero(flags);
    struct qcow2 *q = qcow2_of(block);
    uint64_t end = off + len;
    uint64_t first;
    uint64_t last;
    int r = qcow2_begin_write(q, off, len);

    if (r < 0)
        return r;
    whole_units(q, off, len, qcow2_unit_size(q), &first, &last);
    r = write_zero_data(q, off, min_u64(first, end) - off, how);
    if (r == 0)
        r = clear_range(q, first, last, how);
    if (r == 0 && last < end)
        r = write_zero_data(q, max_u64(last, off), end - max_u64(last, off), how);
    return r;
}

/* Discard a part of a cluster. If all other parts were discarded before, the cluster is. */
static int discard_part(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t start = align_down(off, q->cluster_size);
    struct qcow2_extent extent;
    struct range range;
    int r;

    if (len == 0)
        return 0;
    qcow2_hold_clusters(q, &range, off, len);
    r = qcow2_map(q, off, len, &extent);
    if (r == 0 && extent.kind != QCOW2_UNALLOCATED && qcow2_partial_discard(q, off, len))
        r = clear_held(q, start, q->cluster_size, QCOW2_CLEAR_DISCARD);
    range_release(&q->ranges, &range);
    return r;
}

int qcow2_discard(struct block *block, uint64_t off, uint64_t len)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t end = off + len;
    uint64_t first;
    uint64_t last;
    int r = qcow2_begin_write(q, off, len);

    if (r < 0)
        return r;
    whole_units(q, off, len, q->cluster_size, &first, &last);
    r = discard_part(q, off, min_u64(first, end) - off);
    if (r == 0)
        r = clear_range(q, first, last, QCOW2_CLEAR_DISCARD);
    if (r == 0 && max_u64(last, off) < end)
        r = discard_part(q, max_u64(last, off), end - max_u64(last, off));
    return r;
}
