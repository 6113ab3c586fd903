/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing what the header says beside the places of tables: names of other files, the version,
 * extensions. The header is written anew, once, durably.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_HEADER_WRITE_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_HEADER_WRITE_H

#include "block/qcow2/qcow2.h"

int qcow2_change_backing(struct block *block, const char *name, const char *format) MUST_CHECK;

/* All that the two versions do not have in common must be gone, or is default then. */
int qcow2_change_version(struct qcow2 *q, unsigned version) MUST_CHECK;

int qcow2_change_data_file(struct qcow2 *q, const char *name) MUST_CHECK;

/*
 * Write the extension for bitmaps, or leave it out if `bitmaps->n` is 0, together with the header's
 * fields: `hdr` is its first sector with other values. Durable when it returns.
 */
int qcow2_change_bitmaps(struct qcow2 *q, const uint8_t *hdr,
                         const struct qcow2_bitmaps *bitmaps) MUST_CHECK;

#endif
