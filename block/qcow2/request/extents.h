/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads, and writes in place: what is mapped already.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_EXTENTS_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_EXTENTS_H

#include "block/qcow2/qcow2.h"

/*
 * A part of a request: [off, off + len) of the disk, and where its data is in the request's vector.
 */
struct qcow2_io {
    uint64_t off;
    uint64_t len;
    const struct iovec *iov;
    unsigned niov;
    uint64_t iov_off; /* where `off` is in the vector */
};

/* A read request. */
int qcow2_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
               unsigned niov) MUST_CHECK;

/* Read [off, off + len) of the disk. The caller holds the range, shared or exclusive. */
int qcow2_read_extents(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

/* The same of the backing file, as far as it goes; past its end the disk reads as zero. */
int qcow2_read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

/*
 * Write the beginning of `io` that is mapped and only ours; *ret_done says how much that was. The
 * caller holds the range.
 */
int qcow2_write_extents(struct qcow2 *q, const struct qcow2_io *io, uint64_t *ret_done) MUST_CHECK;

#endif
