/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another version, other widths of refcounts, other bits in the header.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_AMEND_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_AMEND_H

#include "block/driver.h"

/* See block_amend. */
int qcow2_amend(struct block *block, const struct block_amend_options *options,
                struct err *err) MUST_CHECK;

#endif
