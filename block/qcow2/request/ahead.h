/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of the backing file ahead of copy-on-write: one read fetches what the next clusters will
 * need as well, for guests that write from front to back, one request at a time.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_AHEAD_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_AHEAD_H

#include "block/qcow2/qcow2.h"

/*
 * Fill `buf` with what the disk shows at [off, off + len), if the backing file has it, and it was
 * read ahead or is worth reading with what follows it. Returns whether `buf` is filled; if not, the
 * caller reads it in the usual way. The caller holds the range.
 */
bool qcow2_ahead_read(struct qcow2 *q, uint64_t off, uint64_t len, void *buf);

/* A read ahead that goes on beside a write. */
struct qcow2_prefetch {
    struct co_group group;
    struct qcow2 *q;
    uint64_t off;
    uint64_t len;
};

/*
 * Begin to read what qcow2_ahead_read will be asked for next, if all that was read ahead is used
 * up; and wait until that has ended. A failure is no error. *ret_prefetch stays where it is
 * meanwhile.
 */
void qcow2_ahead_begin(struct qcow2 *q, struct qcow2_prefetch *ret_prefetch);
void qcow2_ahead_end(struct qcow2_prefetch *prefetch);

/* Free the memory. No request is in flight. */
void qcow2_ahead_forget(struct qcow2 *q);

#endif
