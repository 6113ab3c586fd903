/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading ahead of copy-on-write.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_AHEAD_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_AHEAD_H

#include "block/qcow2/qcow2.h"

/*
 * Get what the disk shows at [off, off + len), which the caller holds, if that is in the backing
 * file and was read ahead, or is worth reading ahead for. False: it is to be read in the usual way.
 */
bool qcow2_ahead_read(struct qcow2 *q, uint64_t off, uint64_t len, void *buf);

/* A read of what comes next, beside a write. */
struct qcow2_prefetch {
    struct co_group group;
    struct qcow2 *q;
    uint64_t off;
    uint64_t len;
};

/*
 * Between the two calls, what qcow2_ahead_read will be asked for next is read, if the last of what
 * was read ahead has been fetched. The second waits for it; a failure is forgotten.
 */
void qcow2_ahead_begin(struct qcow2 *q, struct qcow2_prefetch *ret_prefetch);
void qcow2_ahead_end(struct qcow2_prefetch *prefetch);

/* Free the memory. No request is in flight. */
void qcow2_ahead_forget(struct qcow2 *q);

#endif
