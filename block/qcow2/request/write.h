/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_WRITE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_WRITE_H

#include "block/driver.h"

int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov) MUST_CHECK;

#endif
