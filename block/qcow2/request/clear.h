/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that write zeroes or discard.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_H

#include "block/driver.h"

/*
 * Let [off, off + len) read as zero. Clusters keep their space unless `flags` has BLOCK_REQ_UNMAP.
 * Returns 0 or -errno. Holding no lock.
 */
int qcow2_write_zeroes(struct block *block, uint64_t off, uint64_t len, unsigned flags) MUST_CHECK;

/*
 * Discard the whole clusters in [off, off + len); of other clusters, remember which parts are
 * discarded (request/partial). Returns 0 or -errno. Holding no lock.
 */
int qcow2_discard(struct block *block, uint64_t off, uint64_t len) MUST_CHECK;

#endif
