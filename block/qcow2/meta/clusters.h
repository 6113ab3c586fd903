/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking clusters of the file.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_CLUSTERS_H
#define MINIVMM_BLOCK_QCOW2_META_CLUSTERS_H

#include "block/qcow2/qcow2.h"

/*
 * Take up to `want` adjacent clusters; all are written or given back by the caller. *ret_fresh:
 * they lie past everything that the file ever held, so they read as zero. With q->lock held.
 */
int qcow2_take_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                        bool *ret_fresh) MUST_CHECK;

/*
 * Take space for `len` bytes of compressed data, at most a cluster, after what was packed last;
 * each cluster that it touches is counted once more. With q->lock held.
 */
int qcow2_take_bytes(struct qcow2 *q, uint64_t len, uint64_t *ret_host) MUST_CHECK;

#endif
