/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes into new clusters.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_COW_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_COW_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/extents.h"

/*
 * Write `io` to the space in `alloc`, and with it what else has to be there before the tables show
 * it: zeroes, or what the disk shows now. The caller holds the clusters exclusively.
 */
int qcow2_cow_write(struct qcow2 *q, const struct qcow2_alloc *alloc,
                    const struct qcow2_io *io) MUST_CHECK;

#endif
