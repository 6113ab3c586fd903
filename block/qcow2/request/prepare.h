/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What precedes a change of the disk. The first write after an opening loads what writing needs and
 * clears autoclear bits of the header; each write notes, for bitmaps, what it is about to change.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PREPARE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PREPARE_H

#include "block/qcow2/qcow2.h"

/*
 * Make the image ready to be written: load the refcount table, find the metadata, clear autoclear
 * bits. Only the first call has something to do. Returns 0 or -errno: -EIO for a corrupt image.
 * Takes q->lock.
 */
int qcow2_prepare_write(struct qcow2 *q) MUST_CHECK;

/*
 * To be called before each request that changes [off, off + len): make the image ready, note the
 * range for bitmaps, and flush if much metadata is dirty. Returns 0 or -errno. Holding no lock.
 */
int qcow2_begin_write(struct qcow2 *q, uint64_t off, uint64_t len) MUST_CHECK;

/*
 * Hold the whole clusters that [off, off + len) touches, exclusively: their mapping is about to
 * change. To be released with range_release.
 */
void qcow2_hold_clusters(struct qcow2 *q, struct range *range, uint64_t off, uint64_t len);

#endif
