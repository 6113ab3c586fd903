/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells whether an image has clusters for which the host has no space: they read as zero, and only
 * the host's file system knows.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_HOLES_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_HOLES_H

#include "block/driver.h"

/* Are there clearly more clusters in use than the host has space for? Returns 0 or -errno. */
int qcow2_has_holes(struct block *block, bool *ret_holes) MUST_CHECK;

#endif
