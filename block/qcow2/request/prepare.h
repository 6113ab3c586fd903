/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes before a change of the disk. The first write of an opening loads what writing needs
 * and lets the header say what it has to say from then on; each write notes what it is about to
 * change.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PREPARE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PREPARE_H

#include "block/qcow2/qcow2.h"

/* Before the first write: load what writing needs, and say in the header that we write. */
int qcow2_prepare_write(struct qcow2 *q) MUST_CHECK;

/* Before each request that writes [off, off + len). Holding no lock. */
int qcow2_begin_write(struct qcow2 *q, uint64_t off, uint64_t len) MUST_CHECK;

/*
 * Hold the whole clusters that [off, off + len) touches, exclusively: their mapping is about to
 * change. To be released with range_release.
 */
void qcow2_hold_clusters(struct qcow2 *q, struct range *range, uint64_t off, uint64_t len);

#endif
