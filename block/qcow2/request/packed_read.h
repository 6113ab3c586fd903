/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of compressed clusters: whole ones are inflated to where they are wanted, parts of them go
 * through a small cache of inflated clusters.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_READ_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_READ_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/map.h"

/*
 * `extent` is the compressed cluster at `off`. If it is wanted as a whole, let the extent go on
 * over whole compressed clusters after it that [off, off + len) has, as many as are read together.
 */
void qcow2_packed_lengthen(struct qcow2 *q, uint64_t off, uint64_t len,
                           struct qcow2_extent *extent);

/*
 * Read [off, off + len) of the disk from the compressed cluster that `entry` points at, or from
 * several whole ones of which it points at the first. Returns 0 or -errno. The caller holds the
 * range.
 */
int qcow2_packed_read(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t len,
                      const struct iovec *iov, unsigned niov) MUST_CHECK;

/* Drop the inflated cluster at `off`, whose entry changes. The caller holds it exclusively. */
void qcow2_packed_changed(struct qcow2 *q, uint64_t off);

/* Forget all inflated clusters, and free the memory. No request is in flight. */
void qcow2_packed_forget(struct qcow2 *q);

#endif
