/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the header of an image, with its extensions, and checking all that it says.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_READ_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_READ_H

#include "block/qcow2/qcow2.h"

/*
 * Fill the fields of `q` and q->block from the header of q->block.file: names of other files and
 * places of tables too, but no table is read. Returns 0, or -errno with *err filled; messages name
 * q->path. The caller frees the names, also after an error.
 */
int qcow2_header_read(struct qcow2 *q, struct err *err) MUST_CHECK;

#endif
