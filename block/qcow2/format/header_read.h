/*
 * Reading the header of an image, with its extensions, and checking all that it says.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_READ_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_HEADER_READ_H

#include "block/qcow2/qcow2.h"

/*
 * Fill in what the header of q->block.file says; messages name q->path. Names of other files and
 * the tables' places are noted, the tables are not read. 0, or -errno with *err filled.
 */
int qcow2_header_read(struct qcow2 *q, struct err *err) MUST_CHECK;

#endif
