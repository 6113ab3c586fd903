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
 * Get the refcount of a cluster; the caller puts its slice with qcow2_slice_put. Returns 0; -ENOENT
 * if no refcount block has it; or another -errno.
 */
int qcow2_refcount_find(struct qcow2 *q, uint64_t cluster,
                        struct qcow2_refcount *ret_count) MUST_CHECK;

/* Get the refcount of a cluster in the refcount block at `host`, as qcow2_refcount_find does. */
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

/*
 * Count a cluster up. Returns 0; -ENOENT if no refcount block has it; -ERANGE if its refcount
 * cannot grow; or another -errno. With q->lock held.
 */
int qcow2_refcount_up(struct qcow2 *q, uint64_t cluster) MUST_CHECK;

/*
 * Find the end of the last cluster in use below q->file_end; 0 if none is. -E2BIG if that would
 * take long. With q->lock held.
 */
int qcow2_refcount_end(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/* Count down clusters that were taken and never referred to. With q->lock held. */
void qcow2_untake_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n);

/*
 * Count down the clusters that [host, host + len) touches, which was taken for compressed data and
 * not referred to. With q->lock held.
 */
void qcow2_untake_bytes(struct qcow2 *q, uint64_t host, uint64_t len);

/*
 * Count down the clusters of the stock; another one is taken only after many flushes have shown its
 * use. With q->lock held, or while no request is in flight.
 */
void qcow2_stock_return(struct qcow2 *q);

/*
 * Add `n` clusters that lost a reference. `punch`: their space goes back to the host when they are
 * counted down. Without memory they stay counted, which is lost space that the checker finds.
 */
void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch);

/* Add all clusters of `from` to `to`, and empty `from`. */
void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from);

/* Count down the clusters in q->unreferenced, and punch those that go back. Takes q->lock. */
void qcow2_release(struct qcow2 *q);

#endif
