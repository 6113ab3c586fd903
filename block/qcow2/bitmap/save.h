/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves what request/bitmap_note has noted: adds it to the bitmaps in the file. Functions are
 * called while the image is not attached.
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAP_SAVE_H
#define MINIVMM_BLOCK_QCOW2_BITMAP_SAVE_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/*
 * Save what was noted, if noting has begun: then the bitmaps in the file are up to date and not in
 * use, and the next write marks them again. Returns 0, or -errno and the bitmaps stay marked.
 */
int qcow2_bitmaps_settle(struct qcow2 *q) MUST_CHECK;

/*
 * The disk is to have another length: save what was noted, and check that all bitmaps can follow.
 * *ret_any says whether there are some; then the caller changes the length with qcow2_bitmaps_save
 * or qcow2_bitmaps_put_all. Returns 0, or -errno with *err filled.
 */
int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t len, bool *ret_any,
                               struct err *err) MUST_CHECK;

/*
 * Write all bitmaps for a disk of `len` bytes, and switch to them and to that length; q->block.len
 * is the old one before. Returns 0 or -errno.
 */
int qcow2_bitmaps_save(struct qcow2 *q, uint64_t len) MUST_CHECK;

/*
 * Write all bitmaps as a part of another switch, for a disk of next->size bytes. After the switch
 * the caller calls qcow2_bitmaps_saved. Returns 0 or -errno.
 */
int qcow2_bitmaps_put_all(struct qcow2_ledger *ledger, struct qcow2_switch *next) MUST_CHECK;

/*
 * The bitmaps in the file have changed: forget what was noted, and let the next write mark bitmaps
 * as the first write does.
 */
void qcow2_bitmaps_saved(struct qcow2 *q);

#endif
