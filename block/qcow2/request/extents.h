/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, and writes in place: requests for what the tables show already.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_EXTENTS_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_EXTENTS_H

#include "block/qcow2/qcow2.h"

/*
 * A piece of a request: [off, off + len) of the disk, and where its data is in the request's
 * vector.
 */
struct qcow2_io {
    uint64_t off;
    uint64_t len;
    const struct iovec *iov;
    unsigned niov;
    uint64_t iov_off; /* where `off` is in the vector */
};

/* Carry out a read request. Returns 0 or -errno. */
int qcow2_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
               unsigned niov) MUST_CHECK;

/* Read [off, off + len) of the disk. The caller holds the range, shared or exclusive. */
int qcow2_read_extents(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

/* Read [off, off + len) of the backing file; without one, or past its end, get zeroes. */
int qcow2_read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

/*
 * Write the beginning of `io`, as far as it is mapped to space that nothing else refers to;
 * *ret_done is the length of that. The caller holds the range.
 */
int qcow2_write_extents(struct qcow2 *q, const struct qcow2_io *io, uint64_t *ret_done) MUST_CHECK;

#endif
