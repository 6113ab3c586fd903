/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of compressed clusters, for the image tool.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_WRITE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_WRITE_H

#include "block/driver.h"

/*
 * Write whole clusters, compressed; those that do not shrink are written as they are. The data must
 * not change meanwhile. Returns 0; -EINVAL for parts of clusters; -ENOTSUP with an external data
 * file; or another -errno.
 */
int qcow2_packed_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov) MUST_CHECK;

#endif
