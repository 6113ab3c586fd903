/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds, removes and changes persistent bitmaps, for the image tool.
 */
#ifndef MINIVMM_BLOCK_QCOW2_BITMAP_EDIT_H
#define MINIVMM_BLOCK_QCOW2_BITMAP_EDIT_H

#include "block/driver.h"

/*
 * Carry out an edit (struct block_bitmap_edit) with one switch. Returns 0, or -errno with *err
 * filled. The image is not attached.
 */
int qcow2_edit_bitmap(struct block *block, const struct block_bitmap_edit *edit,
                      struct err *err) MUST_CHECK;

#endif
