/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing clusters that read as zero by themselves: version 2 has none.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_EXPAND_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_EXPAND_H

#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"

/*
 * Let nothing, in the image and in its snapshots, be a cluster that reads as zero by itself. Of an
 * image without extended L2 entries and without a data file. 0 or -errno; nothing changed then.
 * `snapshots` says where their tables are afterwards.
 */
int qcow2_expand_zeroes(struct qcow2 *q, struct qcow2_snaptable *snapshots) MUST_CHECK;

#endif
