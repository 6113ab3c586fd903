/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving what was noted in the bitmaps that follow the disk.
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAP_SAVE_H
#define MINIVMM_BLOCK_QCOW2_BITMAP_SAVE_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/switch.h"

/*
 * Save what was noted, if there is anything: the bitmaps are up to date in the file, and the next
 * write is the first one again. The image is not attached. 0 or -errno: they stay in use then.
 */
int qcow2_bitmaps_settle(struct qcow2 *q) MUST_CHECK;

/*
 * The disk is to have another length: can all bitmaps follow? *ret_any says whether there are some;
 * then the length is to be changed with one of the two below. -errno with *err filled.
 */
int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t len, bool *ret_any,
                               struct err *err) MUST_CHECK;

/* Write all bitmaps, and the disk's length with them; q->block.len is still the old one. */
int qcow2_bitmaps_save(struct qcow2 *q, uint64_t len) MUST_CHECK;

/*
 * The same as part of another switch, for the length that is in there; after it
 * qcow2_bitmaps_saved.
 */
int qcow2_bitmaps_put_all(struct qcow2_ledger *ledger, struct qcow2_switch *next) MUST_CHECK;

/*
 * The bitmaps in the file are others: nothing is noted, and the next write is the first one again.
 */
void qcow2_bitmaps_saved(struct qcow2 *q);

#endif
