/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/write.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/clear_entries.h"
#include "block/qcow2/request/cow.h"
#include "block/qcow2/request/extents.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/prepare.h"

/* ---- writing into new clusters --------------------------------------------------------------- */

/*
 * Write the beginning of `io` into new clusters; *ret_done is the length of that. The caller holds
 * all clusters of `io` exclusively.
 *
 * The tables show the new clusters only when the data is in them, so a crash or a failed write
 * leaves the old contents.
 */
static int write_allocating(struct qcow2 *q, const struct qcow2_io *io, uint64_t *ret_done)
{
    struct qcow2_io first = *io;
    struct qcow2_alloc alloc;
    int r = qcow2_alloc_begin(q, io->off, io->len, &alloc);

    if (r < 0)
        return r;
    if (alloc.n == 0) /* another request allocated it while this one waited for the range */
        return qcow2_write_extents(q, io, ret_done);

    first.len = min_u64(io->len, alloc.end - io->off);
    r = qcow2_check_data_range(q, alloc.host, alloc.n << q->cluster_bits);
    if (r == 0)
        r = qcow2_cow_write(q, &alloc, &first);
    if (r == 0)
        r = qcow2_alloc_finish(q, &alloc);
    if (r < 0)
        qcow2_alloc_abort(q, &alloc);
    *ret_done = first.len;
    return r;
}

static int write_beginning(struct qcow2 *q, const struct qcow2_io *io, uint64_t *ret_done)
{
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, io->off, io->len, false);
    r = qcow2_write_extents(q, io, ret_done);
    range_release(&q->ranges, &range);
    if (r < 0 || *ret_done > 0)
        return r;

    qcow2_hold_clusters(q, &range, io->off, io->len);
    r = write_allocating(q, io, ret_done);
    range_release(&q->ranges, &range);
    return r;
}

int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    struct qcow2_io io = {.off = off, .len = len, .iov = iov, .niov = niov};
    int r = qcow2_begin_write(q, off, len);

    while (r == 0 && io.len > 0) {
        uint64_t n = 0;

        r = write_beginning(q, &io, &n);
        io.off += n;
        io.len -= n;
        io.iov_off += n;
    }
    return r;
}

/* ---- taking over what the backing file has --------------------------------------------------- */

/*
 * Let the beginning of an extent read as zero by itself; *ret_len is its length. -ENOTSUP if the
 * tables cannot say so of its first unit.
 */
static int zero_extent(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_len)
{
    const uint64_t unit = qcow2_unit_size(q);
    const uint64_t end = off + len == q->block.len ? align_up(off + len, unit) : off + len;

    if (!is_aligned(off, unit) || align_down(end, unit) <= off)
        return -ENOTSUP;
    len = qcow2_clear_piece(q, off, align_down(end, unit) - off);
    *ret_len = len;
    return qcow2_clear_entries(q, off, len, QCOW2_CLEAR_ZERO_OWN);
}

static int copy_extent(struct qcow2 *q, uint64_t off, uint64_t len, void *buf)
{
    struct iovec iov = {buf, len};
    struct qcow2_io io = {.off = off, .len = len, .iov = &iov, .niov = 1};
    int r = qcow2_read_backing(q, off, len, &iov, 1);

    while (r == 0 && io.len > 0) {
        uint64_t n = 0;

        r = write_allocating(q, &io, &n);
        io.off += n;
        io.len -= n;
        io.iov_off += n;
    }
    return r;
}

/* The first extent of a range whose clusters the caller holds; *ret_len is its length. */
static int copy_up_extent(struct qcow2 *q, uint64_t off, uint64_t len, void *buf, bool zero,
                          uint64_t *ret_len)
{
    struct qcow2_extent extent = {0};
    int r = qcow2_map(q, off, len, &extent);

    *ret_len = extent.len;
    if (r < 0 || extent.kind != QCOW2_UNALLOCATED)
        return r;
    r = zero ? zero_extent(q, off, extent.len, ret_len) : -ENOTSUP;
    if (r != -ENOTSUP)
        return r;
    *ret_len = extent.len;
    return copy_extent(q, off, extent.len, buf);
}

int qcow2_copy_up(struct block *block, uint64_t off, uint64_t len, void *buf, bool zero)
{
    struct qcow2 *q = qcow2_of(block);
    const uint64_t end = off + len;
    struct range range;
    int r = qcow2_begin_write(q, off, len);

    if (r < 0)
        return r;
    qcow2_hold_clusters(q, &range, off, len);
    while (r == 0 && off < end) {
        r = copy_up_extent(q, off, end - off, buf, zero, &len);
        off += len;
    }
    range_release(&q->ranges, &range);
    return r;
}
