/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the bitmaps of an image: what the image tool asks for.
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAP_EDIT_H
#define MINIVMM_BLOCK_QCOW2_BITMAP_EDIT_H

#include "block/driver.h"

/* See block_bitmap_edit. */
int qcow2_edit_bitmap(struct block *block, const struct block_bitmap_edit *edit,
                      struct err *err) MUST_CHECK;

#endif
