/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes what the header says beside the places of tables: names of other files, the version,
 * extensions. Extensions that are not known here stay. Changes are durable when a function returns.
 * Results are 0 or -errno: -ENOSPC if the first cluster has no room for them.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_HEADER_WRITE_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_HEADER_WRITE_H

#include "block/qcow2/qcow2.h"

/*
 * Name another backing file and its format; NULL for none. -EINVAL if the name is too long, or if
 * the image has a raw data file, which cannot have a backing file.
 */
int qcow2_change_backing(struct block *block, const char *name, const char *format) MUST_CHECK;

/*
 * Change the version. The caller has removed what only one of the versions has; feature bits become
 * zero.
 */
int qcow2_change_version(struct qcow2 *q, unsigned version) MUST_CHECK;

/* Name another external data file. */
int qcow2_change_data_file(struct qcow2 *q, const char *name) MUST_CHECK;

/*
 * Write the extension for bitmaps, or leave it out if `bitmaps->n` is 0, together with the header's
 * fields: `hdr` is the first sector with their new values.
 */
int qcow2_change_bitmaps(struct qcow2 *q, const uint8_t *hdr,
                         const struct qcow2_bitmaps *bitmaps) MUST_CHECK;

#endif
