/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing compressed clusters.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_WRITE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_WRITE_H

#include "block/driver.h"

/* Write whole clusters, compressed; -EINVAL for parts, -ENOTSUP with an external data file. */
int qcow2_packed_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

#endif
