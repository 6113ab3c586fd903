/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notes what requests write, for bitmaps that follow the disk. The first write marks these bitmaps
 * as in use in the file; when the image is closed, bitmap/save adds to them what was noted.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_BITMAP_NOTE_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_BITMAP_NOTE_H

#include "block/qcow2/format/bits.h"
#include "block/qcow2/qcow2.h"

struct qcow2_tracking {
    struct qcow2_bits written;
    bool *marked; /* for each bitmap, in the order of the directory: we marked it */
    uint32_t n;
};

/*
 * Mark the bitmaps that follow the disk as in use, durably, and begin to note what is written; to
 * be called before the first write. *ret_known is false if the image has no bitmaps, or a directory
 * that is damaged: then the caller clears their feature bit. Returns 0 or -errno.
 */
int qcow2_bitmaps_begin(struct qcow2 *q, bool *ret_known) MUST_CHECK;

/*
 * Note that [off, off + len) is about to change; bytes past the disk's end are ignored. Without
 * memory for that, noting ends, and the bitmaps stay marked as in use, which means out of date.
 */
void qcow2_bitmaps_note(struct qcow2 *q, uint64_t off, uint64_t len);

/* Forget what was noted, and free the memory. */
void qcow2_bitmaps_forget(struct qcow2 *q);

#endif
