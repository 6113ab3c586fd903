/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replaces zero clusters, which read as zero by themselves: version 2 does not have them.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_EXPAND_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_EXPAND_H

#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"

/*
 * Replace all zero clusters of the disk and of its snapshots, in an image without extended L2
 * entries and without an external data file. Returns 0, and `snapshots` says where their L1 tables
 * are; or -errno.
 */
int qcow2_expand_zeroes(struct qcow2 *q, struct qcow2_snaptable *snapshots) MUST_CHECK;

#endif
