/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing L2 entries so that clusters read as zero, or are no longer allocated.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_ENTRIES_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_ENTRIES_H

#include "block/qcow2/qcow2.h"

enum qcow2_clear {
    QCOW2_CLEAR_ZERO,
    QCOW2_CLEAR_ZERO_OWN, /* whatever is below */
    QCOW2_CLEAR_ZERO_UNMAP,
    QCOW2_CLEAR_DISCARD,
};

static inline bool qcow2_clear_keeps_space(enum qcow2_clear how)
{
    return how <= QCOW2_CLEAR_ZERO_OWN;
}

/*
 * How much of [off, off + len) is cleared together: some subclusters of a cluster, or whole
 * clusters of one slice.
 */
uint64_t qcow2_clear_piece(const struct qcow2 *q, uint64_t off, uint64_t len);

/*
 * Change one such piece to read as zero, or discard whole clusters. The caller holds its clusters
 * exclusively. -ENOTSUP if the image cannot say "zero" of it (version 2 over a backing file, a part
 * of a compressed cluster).
 */
int qcow2_clear_entries(struct qcow2 *q, uint64_t off, uint64_t len,
                        enum qcow2_clear how) MUST_CHECK;

#endif
