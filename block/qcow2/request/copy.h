/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of what the host copies from another file.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_COPY_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_COPY_H

#include "block/driver.h"

/* See BLOCK_COPY. */
int qcow2_copy(struct block *block, uint64_t off, uint64_t len, struct file *from,
               uint64_t from_off) MUST_CHECK;

#endif
