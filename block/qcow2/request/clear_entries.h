/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing L2 entries so that clusters read as zero, or are no longer allocated.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_ENTRIES_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_CLEAR_ENTRIES_H

#include "block/qcow2/qcow2.h"

enum qcow2_clear {
    QCOW2_CLEAR_ZERO,       /* read as zero; keep the space */
    QCOW2_CLEAR_ZERO_OWN,   /* the same, by an entry that says so whatever is below */
    QCOW2_CLEAR_ZERO_UNMAP, /* read as zero; free the space */
    QCOW2_CLEAR_DISCARD,    /* free the space; read as zero if the entry can say that */
};

static inline bool qcow2_clear_keeps_space(enum qcow2_clear how)
{
    return how <= QCOW2_CLEAR_ZERO_OWN;
}

/*
 * The length of the piece at the beginning of [off, off + len) that is cleared at a time: some
 * subclusters of a cluster, or whole clusters of one slice.
 */
uint64_t qcow2_clear_piece(const struct qcow2 *q, uint64_t off, uint64_t len);

/*
 * Change the L2 entries of a piece (qcow2_clear_piece) in the way that `how` says; subclusters can
 * only be made to read as zero. Returns 0; -ENOTSUP if the entries cannot say "zero" (version 2
 * over a backing file, a part of a compressed cluster); or another -errno. The caller holds the
 * clusters exclusively. Takes q->lock.
 */
int qcow2_clear_entries(struct qcow2 *q, uint64_t off, uint64_t len,
                        enum qcow2_clear how) MUST_CHECK;

#endif
