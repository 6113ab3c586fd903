/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of clusters: how many references each has. They go down only after it is durable that
 * nothing refers to the cluster (meta/flush).
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_REFCOUNT_H
#define MINIVMM_BLOCK_QCOW2_META_REFCOUNT_H

#include "block/qcow2/format/refblock.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

/* A refcount in its slice. */
struct qcow2_refcount {
    struct qcow2_slice *slice;
    unsigned i;
    unsigned n; /* refcounts in the slice */
};

/*
 * Get the refcount of a cluster; its slice is to be put with qcow2_slice_put. -ENOENT if no
 * refcount block has it.
 */
int qcow2_refcount_find(struct qcow2 *q, uint64_t cluster,
                        struct qcow2_refcount *ret_count) MUST_CHECK;

/* The same in the refcount block at `host`. */
int qcow2_refcount_find_in(struct qcow2 *q, uint64_t host, uint64_t cluster,
                           struct qcow2_refcount *ret_count) MUST_CHECK;

static inline uint64_t qcow2_refcount_get(const struct qcow2 *q, const struct qcow2_refcount *count)
{
    return qcow2_refblock_get(q->refcount_order, count->slice->data, count->i);
}

static inline void qcow2_refcount_set(struct qcow2 *q, const struct qcow2_refcount *count,
                                      uint64_t value)
{
    qcow2_refblock_set(q->refcount_order, count->slice->data, count->i, value);
    qcow2_slice_dirty(q, count->slice);
}

/* One reference more. -ENOENT, -ERANGE beyond what a refcount can hold. With q->lock held. */
int qcow2_refcount_up(struct qcow2 *q, uint64_t cluster) MUST_CHECK;

/*
 * Past which cluster are no others in use, up to q->file_end? -E2BIG if that would take long to
 * find out. With q->lock held.
 */
int qcow2_refcount_end(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/* Give back clusters that were taken and never referred to. With q->lock held. */
void qcow2_untake_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n);

/* The same for the space of compressed data. */
void qcow2_untake_bytes(struct qcow2 *q, uint64_t host, uint64_t len);

/*
 * Give back the stock, and keep none until many flushes ask for it again. With q->lock held, or
 * nothing in flight.
 */
void qcow2_stock_return(struct qcow2 *q);

/*
 * Remember clusters that lost a reference. Without memory for it they stay counted, which is lost
 * space that the image checker finds.
 */
void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch);
void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from);

/* Count down what is in q->unreferenced. Takes q->lock. */
void qcow2_release(struct qcow2 *q);

#endif
