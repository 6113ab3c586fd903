/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of data that the host copies from another file. Locks, space and order on disk are those
 * of any other write.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_COPY_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_COPY_H

#include "block/driver.h"

/*
 * Let the host copy [from_off, from_off + len) of `from` to `off` on the disk (BLOCK_COPY). Returns
 * 0 or -errno: -EOPNOTSUPP if the host cannot, or if the range does not fill the space that it
 * takes. Holding no lock.
 */
int qcow2_copy(struct block *block, uint64_t off, uint64_t len, struct file *from,
               uint64_t from_off) MUST_CHECK;

#endif
