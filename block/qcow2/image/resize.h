/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Longer and shorter disks.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_RESIZE_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_RESIZE_H

#include "block/qcow2/qcow2.h"

int qcow2_resize(struct block *block, uint64_t len, enum block_prealloc prealloc,
                 struct err *err) MUST_CHECK;

int qcow2_make_empty(struct block *block) MUST_CHECK;

/* See that the L1 table has at least `n` entries, durably. -EFBIG beyond the format's limit. */
int qcow2_grow_l1(struct qcow2 *q, uint64_t n) MUST_CHECK;

#endif
