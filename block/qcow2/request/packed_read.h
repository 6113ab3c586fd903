/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading compressed clusters.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_READ_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_PACKED_READ_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/map.h"

/*
 * `extent` is what is at `off`, a compressed cluster: if all of it is wanted, let it go on over
 * those after it, as far as they are wanted too and make one read of the file.
 */
void qcow2_packed_lengthen(struct qcow2 *q, uint64_t off, uint64_t len,
                           struct qcow2_extent *extent);

/*
 * Read bytes [off, + len) of the disk from the compressed cluster that `entry` describes, or from
 * several whole ones of which it describes the first.
 */
int qcow2_packed_read(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t len,
                      const struct iovec *iov, unsigned niov) MUST_CHECK;

/* The cluster at `off` is no longer what it was. */
void qcow2_packed_changed(struct qcow2 *q, uint64_t off);

/* Forget all inflated clusters, and free the memory. No request is in flight. */
void qcow2_packed_forget(struct qcow2 *q);

#endif
