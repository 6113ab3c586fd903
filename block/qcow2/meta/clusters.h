/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking clusters of the file: free ones are found and counted up, in memory. Where there is no
 * refcount block to count a cluster, or no entry in the refcount table for the block, these are
 * made first.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_CLUSTERS_H
#define MINIVMM_BLOCK_QCOW2_META_CLUSTERS_H

#include "block/qcow2/qcow2.h"

/*
 * Take a run of up to `want` clusters, *ret_n from *ret_cluster on. *ret_fresh: they are fresh, so
 * they read as zero. The caller uses all of them, or counts them down with qcow2_untake_clusters.
 * Returns 0 or -errno. With q->lock held.
 */
int qcow2_take_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                        bool *ret_fresh) MUST_CHECK;

/*
 * Take space for `len` bytes of compressed data, at most a cluster, after what was packed last:
 * each cluster that it touches is counted up. Space that is not used is counted down with
 * qcow2_untake_bytes. Returns 0 or -errno: -EFBIG where no L2 entry could point at it. With q->lock
 * held.
 */
int qcow2_take_bytes(struct qcow2 *q, uint64_t len, uint64_t *ret_host) MUST_CHECK;

#endif
