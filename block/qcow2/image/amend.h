/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes what an image was made with: version, width of refcounts, lazy refcounts, the name of the
 * data file.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_AMEND_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_AMEND_H

#include "block/driver.h"

/*
 * Change what `options` says, step by step. Returns 0, or -errno with *err filled; then steps
 * before the one that failed are done. The image is not attached.
 */
int qcow2_amend(struct block *block, const struct block_amend_options *options,
                struct err *err) MUST_CHECK;

#endif
