/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qcow2 format as the rest of block/ sees it: opening images, and the table of operations.
 */
#ifndef MINIVMM_BLOCK_QCOW2_DRIVER_H
#define MINIVMM_BLOCK_QCOW2_DRIVER_H

#include "block/driver.h"

extern const struct block_driver qcow2_driver;

/*
 * Open an image: read and check its header and its L1 table. Returns 0, or -errno with *err filled.
 * The image owns source->file on success; the caller keeps it after an error.
 */
int qcow2_open(const struct block_source *source, struct block **ret_block,
               struct err *err) MUST_CHECK;

/*
 * Hand over the data file of an image that names one (block->data_name), before any request. The
 * image owns it.
 */
void qcow2_set_data_file(struct block *block, struct file *file);

#endif
