/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters that the host has no space for.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_HOLES_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_HOLES_H

#include "block/driver.h"

/* Are there more clusters in use than the host has space for? */
int qcow2_has_holes(struct block *block, bool *ret_holes) MUST_CHECK;

#endif
