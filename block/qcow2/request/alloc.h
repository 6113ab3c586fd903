/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space for clusters of the disk that are about to be written. It is taken first; L2 entries point
 * at it when the data is in it. Functions take q->lock and return 0 or -errno.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_ALLOC_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_ALLOC_H

#include "block/qcow2/qcow2.h"

/*
 * Space for `n` clusters of the disk. [start, end) is the range of the disk, of whole units, that
 * has to be in the space before L2 entries point at it.
 */
struct qcow2_alloc {
    uint64_t start;
    uint64_t end;
    uint64_t n;    /* clusters; 0: they are mapped, and are to be written in place */
    uint64_t host; /* of the first of them */
    bool fresh;    /* the space reads as zero */
    bool reuse;    /* the clusters have this space already, but do not show it */
};

/*
 * Find space for a write of [off, off + len), or of the beginning of that. L2 entries do not change
 * yet. The caller holds the clusters exclusively, until qcow2_alloc_finish or qcow2_alloc_abort.
 */
int qcow2_alloc_begin(struct qcow2 *q, uint64_t off, uint64_t len,
                      struct qcow2_alloc *ret_alloc) MUST_CHECK;

/*
 * The data is in the space: let L2 entries point at it, and free what they pointed at. After an
 * error the caller calls qcow2_alloc_abort.
 */
int qcow2_alloc_finish(struct qcow2 *q, const struct qcow2_alloc *alloc) MUST_CHECK;

/* Something has failed: give the space back. */
void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc);

/* The same three steps for the compressed data of the cluster at `off`: `len` bytes at `host`. */
int qcow2_alloc_packed_begin(struct qcow2 *q, uint64_t off, uint64_t len,
                             uint64_t *ret_host) MUST_CHECK;
int qcow2_alloc_packed_finish(struct qcow2 *q, uint64_t off, uint64_t host,
                              uint64_t len) MUST_CHECK;
void qcow2_alloc_packed_abort(struct qcow2 *q, uint64_t host, uint64_t len);

#endif
