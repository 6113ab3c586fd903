/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Noting what is written for the bitmaps that follow the disk.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_BITMAP_NOTE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_BITMAP_NOTE_H

#include "block/qcow2/format/bits.h"
#include "block/qcow2/qcow2.h"

struct qcow2_tracking {
    struct qcow2_bits written;
    bool *marked; /* bitmaps, in the order of the directory, that we marked */
    uint32_t n;
};

/*
 * Before the disk's contents change: mark those bitmaps that have to follow as in use, and begin to
 * note what is written. It is durable when this returns. *ret_known is false if there are none, or
 * some that cannot be marked: then the feature bit has to go.
 */
int qcow2_bitmaps_begin(struct qcow2 *q, bool *ret_known) MUST_CHECK;

/* [off, off + len) is about to change. What lies past the disk's end is no news. */
void qcow2_bitmaps_note(struct qcow2 *q, uint64_t off, uint64_t len);

/* Free the memory. */
void qcow2_bitmaps_forget(struct qcow2 *q);

#endif
