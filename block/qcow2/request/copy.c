/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A range that does not fill the space that it takes is refused: the rest would have to be written
 * from a buffer, and there is none.
 */
#include "block/qcow2/request/copy.h"

#include <errno.h>

#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/l2.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/partial.h"
#include "block/qcow2/request/prepare.h"

/* What is being copied. */
struct copy {
    struct qcow2 *q;
    uint64_t off; /* of the disk */
    uint64_t end;
    struct file *from;
    uint64_t from_off; /* where the data for `off` is in `from` */
};

static int copy_to(const struct copy *copy, uint64_t host, uint64_t len)
{
    int r = qcow2_check_data_range(copy->q, host, len);

    return r < 0 ? r : qcow2_data_copy(copy->q, host, len, copy->from, copy->from_off);
}

/* Copy to clusters that have space of their own already. */
static int copy_in_place(const struct copy *copy, uint64_t *ret_done)
{
    struct qcow2_extent extent;
    int r = qcow2_map(copy->q, copy->off, copy->end - copy->off, &extent);

    if (r < 0)
        return r;
    qcow2_partial_write(copy->q, copy->off, extent.len);
    *ret_done = extent.len;
    return copy_to(copy, extent.host, extent.len);
}

/* The tables show the new clusters only when the data is in them, as with any allocating write. */
static int copy_beginning(const struct copy *copy, uint64_t *ret_done)
{
    struct qcow2 *q = copy->q;
    struct qcow2_alloc alloc;
    int r = qcow2_alloc_begin(q, copy->off, copy->end - copy->off, &alloc);

    if (r < 0)
        return r;
    if (alloc.n == 0)
        return copy_in_place(copy, ret_done);
    if (alloc.start < copy->off || alloc.end > copy->end)
        r = -EOPNOTSUPP;
    else
        r = copy_to(copy, alloc.host + qcow2_in_cluster(q, alloc.start), alloc.end - alloc.start);
    if (r == 0)
        r = qcow2_alloc_finish(q, &alloc);
    if (r < 0)
        qcow2_alloc_abort(q, &alloc);
    *ret_done = alloc.end - alloc.start;
    return r;
}

int qcow2_copy(struct block *block, uint64_t off, uint64_t len, struct file *from,
               uint64_t from_off)
{
    struct copy copy = {qcow2_of(block), off, off + len, from, from_off};
    struct range range;
    int r = qcow2_begin_write(copy.q, off, len);

    if (r < 0)
        return r;
    qcow2_hold_clusters(copy.q, &range, off, len);
    while (r == 0 && copy.off < copy.end) {
        uint64_t n = 0;

        r = copy_beginning(&copy, &n);
        copy.off += n;
        copy.from_off += n;
    }
    range_release(&copy.q->ranges, &range);
    return r;
}
