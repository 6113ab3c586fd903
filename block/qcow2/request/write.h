/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write requests: in place where the clusters have space of their own, else into new clusters.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_WRITE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_WRITE_H

#include "block/driver.h"

/* Carry out a write request. Returns 0 or -errno. Holding no lock. */
int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov) MUST_CHECK;

/*
 * Copy to the image what it shows of its backing file in the range, by way of `buf`, which has room
 * for it. The disk shows what it did. With `zero` the caller knows that all of it reads as zero:
 * then the image says so itself, whatever is below. Returns 0 or -errno. Holding no lock.
 */
int qcow2_copy_up(struct block *block, uint64_t off, uint64_t len, void *buf, bool zero) MUST_CHECK;

#endif
