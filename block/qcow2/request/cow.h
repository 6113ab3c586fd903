/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes into new clusters. What the guest does not write of them is filled, with zeroes or with
 * what the disk shows there, in the same write where that is possible.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_COW_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_COW_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/extents.h"

/*
 * Write `io` to the space in `alloc`, and fill the rest of [alloc->start, alloc->end). L2 entries
 * do not change. Returns 0 or -errno. The caller holds the clusters exclusively.
 */
int qcow2_cow_write(struct qcow2 *q, const struct qcow2_alloc *alloc,
                    const struct qcow2_io *io) MUST_CHECK;

#endif
