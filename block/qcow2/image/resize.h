/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes the length of a disk, and empties disks. The image is not attached.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_RESIZE_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_RESIZE_H

#include "block/qcow2/qcow2.h"

/*
 * Give the disk another length, rounded up to whole sectors; what is new reads as zero. `prealloc`
 * is for growing. Returns 0, or -errno with *err filled.
 */
int qcow2_resize(struct block *block, uint64_t len, enum block_prealloc prealloc,
                 struct err *err) MUST_CHECK;

/*
 * Unmap the whole disk, so that it shows its backing file, and cut the file. Returns 0 or -errno.
 */
int qcow2_make_empty(struct block *block) MUST_CHECK;

/*
 * Make sure that the L1 table has at least `n` entries, durably. Returns 0; -EFBIG beyond the
 * format's limit; or another -errno.
 */
int qcow2_grow_l1(struct qcow2 *q, uint64_t n) MUST_CHECK;

#endif
