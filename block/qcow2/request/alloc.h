/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space for clusters of the disk that are about to be written: taken first, shown by the tables
 * when the data is in it.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_ALLOC_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_ALLOC_H

#include "block/qcow2/qcow2.h"

/*
 * Space for clusters of the disk, and the part of them, whole clusters or subclusters, that is to
 * be in it before the L2 entries say so.
 */
struct qcow2_alloc {
    uint64_t start;
    uint64_t end;
    uint64_t n;    /* clusters; 0: nothing to allocate, write in place */
    uint64_t host; /* of the first of them */
    bool fresh;    /* the space reads as zero */
    bool reuse;    /* the guest's clusters had it already */
};

/*
 * Find space for a write of [off, off + len), or for the beginning of it. The caller holds the
 * clusters' range exclusively; the tables still show the old mapping.
 */
int qcow2_alloc_begin(struct qcow2 *q, uint64_t off, uint64_t len,
                      struct qcow2_alloc *ret_alloc) MUST_CHECK;

/* The data is written: make the tables show it, and release what was there. */
int qcow2_alloc_finish(struct qcow2 *q, const struct qcow2_alloc *alloc) MUST_CHECK;

/* The data could not be written: give the space back. */
void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc);

/* The same three steps for `len` bytes of compressed data, [*ret_host, + len), of one cluster. */
int qcow2_alloc_packed_begin(struct qcow2 *q, uint64_t off, uint64_t len,
                             uint64_t *ret_host) MUST_CHECK;
int qcow2_alloc_packed_finish(struct qcow2 *q, uint64_t off, uint64_t host,
                              uint64_t len) MUST_CHECK;
void qcow2_alloc_packed_abort(struct qcow2 *q, uint64_t host, uint64_t len);

#endif
