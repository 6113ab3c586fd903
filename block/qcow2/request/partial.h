/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards of parts of a cluster. Space goes back to the host by whole clusters, but guests give it
 * back by the block of their file system: so parts that the guest has discarded are remembered
 * until they are the whole cluster.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PARTIAL_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PARTIAL_H

#include "block/qcow2/qcow2.h"

/*
 * The guest discards [off, off + len), a part of one cluster, which the caller holds exclusively.
 * Returns whether the whole cluster is discarded by now; then its parts are forgotten.
 */
bool qcow2_partial_discard(struct qcow2 *q, uint64_t off, uint64_t len);

/* The range is about to be written, or was: its parts are in use. The caller holds the range. */
void qcow2_partial_write(struct qcow2 *q, uint64_t off, uint64_t len);

/* Forget all parts and free the memory: the disk has other contents now. */
void qcow2_partial_forget(struct qcow2 *q);

#endif
