/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extents of a request lie in different places of the host and are carried out side by side.
 */
#include "block/qcow2/request/extents.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/packed_read.h"
#include "block/qcow2/request/partial.h"

/*
 * Finding and starting an extent takes about as long as copying so many bytes (co_turn): extents
 * can be of 512 bytes, in each of many layers.
 */
#define EXTENT_COST (4u << 10)

/* The I/O of one extent. */
struct extent_io {
    struct qcow2 *q;
    struct co_group *group;
    bool write;
    struct qcow2_extent extent;
    struct qcow2_io io; /* all of the request from the extent on */
};

int qcow2_read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov)
{
    struct block *backing = q->block.backing;
    uint64_t end = backing ? min_u64(backing->len, q->block.len) : 0;
    uint64_t have = off < end ? min_u64(len, end - off) : 0;
    struct iov_part part;
    int r;

    iov_memset(iov, niov, have, 0, len - have);
    if (have == 0)
        return 0;
    r = iov_part_take(&part, iov, niov, 0, have);
    if (r < 0)
        return r;
    r = backing->driver->read(backing, off, have, part.iov, part.niov);
    iov_part_done(&part);
    return r;
}

static int read_extent(struct qcow2 *q, uint64_t off, const struct qcow2_extent *extent,
                       const struct iovec *iov, unsigned niov)
{
    switch (extent->kind) {
    case QCOW2_UNALLOCATED:
        return qcow2_read_backing(q, off, extent->len, iov, niov);
    case QCOW2_ZEROES:
        iov_memset(iov, niov, 0, 0, extent->len);
        return 0;
    case QCOW2_NORMAL:
        return qcow2_data_readv(q, extent->host, iov, niov);
    case QCOW2_PACKED:
        return qcow2_packed_read(q, off, extent->entry, extent->len, iov, niov);
    }
    return -EIO;
}

static int write_extent(struct qcow2 *q, const struct qcow2_extent *extent, const struct iovec *iov,
                        unsigned niov)
{
    int r = qcow2_check_data_range(q, extent->host, extent->len);

    return r < 0 ? r : qcow2_data_writev(q, extent->host, iov, niov);
}

/* ---- extents of a request -------------------------------------------------------------------- */

static int carry_out(const struct extent_io *x)
{
    struct iov_part part;
    int r = iov_part_take(&part, x->io.iov, x->io.niov, x->io.iov_off, x->extent.len);

    if (r < 0)
        return r;
    if (x->write)
        r = write_extent(x->q, &x->extent, part.iov, part.niov);
    else
        r = read_extent(x->q, x->io.off, &x->extent, part.iov, part.niov);
    iov_part_done(&part);
    return r;
}

static void extent_main(void *opaque)
{
    struct extent_io x = *(struct extent_io *)opaque;

    free(opaque);
    co_group_done(x.group, carry_out(&x));
}

static bool asks_the_host(const struct extent_io *x)
{
    return x->extent.kind != QCOW2_ZEROES &&
           (x->extent.kind != QCOW2_UNALLOCATED || x->q->block.backing);
}

/* Carry out an extent: in a coroutine, beside those that follow, if that is possible; else now. */
static int start(const struct extent_io *x)
{
    struct extent_io *copy = co_self() && asks_the_host(x) ? malloc(sizeof(*copy)) : NULL;

    if (copy) {
        *copy = *x;
        if (co_group_start(x->group, extent_main, copy) == 0)
            return 0;
        free(copy);
    }
    return carry_out(x);
}

static bool is_in_place(const struct qcow2_extent *extent)
{
    return extent->kind == QCOW2_NORMAL && extent->copied;
}

/* Find the extent at the beginning of x->io. *ret_any is false if it cannot be written in place. */
static int find_next(struct extent_io *x, bool *ret_any)
{
    int r = co_turn(EXTENT_COST);

    *ret_any = false;
    if (r == 0)
        r = qcow2_map(x->q, x->io.off, x->io.len, &x->extent);
    if (r < 0 || (x->write && !is_in_place(&x->extent)))
        return r;
    *ret_any = true;
    if (x->extent.kind == QCOW2_PACKED)
        qcow2_packed_lengthen(x->q, x->io.off, x->io.len, &x->extent);
    if (x->write)
        qcow2_partial_write(x->q, x->io.off, x->extent.len);
    return 0;
}

static int carry_out_all(struct qcow2 *q, const struct qcow2_io *io, bool write, uint64_t *ret_done)
{
    struct co_group group;
    struct extent_io x = {.q = q, .group = &group, .write = write, .io = *io};
    bool any = true;
    int r = 0;
    int r2;

    co_group_init(&group);
    while (r == 0 && group.result == 0 && x.io.len > 0) {
        uint64_t len;

        r = find_next(&x, &any);
        if (r < 0 || !any)
            break;
        len = x.extent.len;
        r = len < x.io.len ? start(&x) : carry_out(&x);
        x.io.off += len;
        x.io.iov_off += len;
        x.io.len -= len;
    }
    r2 = co_group_wait(&group);
    *ret_done = io->len - x.io.len;
    return r < 0 ? r : r2;
}

int qcow2_read_extents(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov)
{
    struct qcow2_io io = {.off = off, .len = len, .iov = iov, .niov = niov};
    uint64_t done;

    return carry_out_all(q, &io, false, &done);
}

int qcow2_write_extents(struct qcow2 *q, const struct qcow2_io *io, uint64_t *ret_done)
{
    return carry_out_all(q, io, true, ret_done);
}

int qcow2_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
               unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, off, len, false);
    r = qcow2_read_extents(q, off, len, iov, niov);
    range_release(&q->ranges, &range);
    return r;
}
