/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards of parts of a cluster.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PARTIAL_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PARTIAL_H

#include "block/qcow2/qcow2.h"

/*
 * The guest discards [off, off + len), a part of one cluster, which the caller holds exclusively.
 * Returns whether nothing of the cluster is in use now; it is forgotten then.
 */
bool qcow2_partial_discard(struct qcow2 *q, uint64_t off, uint64_t len);

/* The range is about to be written, or has been: holding it. */
void qcow2_partial_write(struct qcow2 *q, uint64_t off, uint64_t len);

/* The disk's contents are others now. */
void qcow2_partial_forget(struct qcow2 *q);

#endif
