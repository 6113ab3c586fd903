/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hints where free clusters are, so that finding one costs the same in a small image and in a
 * large, full or fragmented one. Only the refcounts say what is free.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_SPACE_H
#define MINIVMM_BLOCK_QCOW2_META_SPACE_H

#include "block/qcow2/qcow2.h"

/* Forget all hints. The refcounts in memory are those in the file. */
void qcow2_space_reset(struct qcow2 *q);

/* Find a cluster from which to look for a free one. Returns 0 or -errno. With q->lock held. */
int qcow2_space_find(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/*
 * The slice of `from` was searched from that cluster on. If `n` is not 0, `n` clusters were taken,
 * which end at `next`. If it is 0, none was free, and the next slice begins at `next`.
 */
void qcow2_space_taken(struct qcow2 *q, uint64_t from, uint64_t n, uint64_t next);

/* The refcount of the cluster has become zero. */
void qcow2_space_freed(struct qcow2 *q, uint64_t cluster);

/*
 * Clusters that were taken are free again, and were never written. If they are the last that were
 * taken past the end of the file, they are the next to be taken.
 */
void qcow2_space_untaken(struct qcow2 *q, uint64_t first, uint64_t n);

#endif
