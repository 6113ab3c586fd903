/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking an image, as the image tool asks for it and as opening an image needs it.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H
#define MINIVMM_BLOCK_QCOW2_CHECK_CHECK_H

#include "block/driver.h"

/* See block_check. */
int qcow2_check(struct block *block, unsigned fix, struct block_check_report *report,
                struct block_check_result *ret_result, struct err *err) MUST_CHECK;

/*
 * An image that was not closed cleanly (lazy refcounts) is to be written: make its refcounts right.
 * Says in the report, or in the log, what it did. 0, or a negative errno with *err filled: it must
 * not be written.
 */
int qcow2_recover(struct block *block, struct block_check_report *report,
                  struct err *err) MUST_CHECK;

#endif
