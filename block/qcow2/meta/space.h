/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hints where free clusters are.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_SPACE_H
#define MINIVMM_BLOCK_QCOW2_META_SPACE_H

#include "block/qcow2/qcow2.h"

/* Forget everything. The metadata in memory is that of the file. */
void qcow2_space_reset(struct qcow2 *q);

/* Where to look for a free cluster; it need not be one. With q->lock held. */
int qcow2_space_find(struct qcow2 *q, uint64_t *ret_cluster) MUST_CHECK;

/*
 * The slice was searched from that cluster on: `n` clusters up to `next` were taken, or it has none
 * from there on, and the next slice begins at `next`.
 */
void qcow2_space_taken(struct qcow2 *q, uint64_t from, uint64_t n, uint64_t next);

void qcow2_space_freed(struct qcow2 *q, uint64_t cluster);

/* Clusters that were taken last are free again, and nobody has written to them. */
void qcow2_space_untaken(struct qcow2 *q, uint64_t first, uint64_t n);

#endif
