/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks and repairs images: for the image tool, and before an image is written that was not closed
 * cleanly.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H
#define MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H

#include "block/driver.h"

/*
 * Check the image, and repair what `fix` says (BLOCK_FIX_…). Returns 0 with *ret_result filled, or
 * -errno with *err filled. The image is not attached.
 */
int qcow2_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err) MUST_CHECK;

/*
 * Make the refcounts right of an image that was not closed cleanly (lazy refcounts) and is to be
 * written. The report says what was done; without one the log does. Returns 0, or -errno with *err
 * filled; then the image must not be written.
 */
int qcow2_recover(struct block *block, struct block_check_report *report,
                  struct err *err) MUST_CHECK;

#endif
