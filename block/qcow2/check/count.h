/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first half of a check: reads what the refcount blocks say, and counts how often each cluster
 * is referred to. Functions return 0 or -errno.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_COUNT_H
#define MINIVMM_BLOCK_QCOW2_CHECK_COUNT_H

#include "block/qcow2/check/check_state.h"

/* Read the refcounts in the file and the snapshot table. */
int qcow2_check_load(struct qcow2_check *check) MUST_CHECK;

/* Count all references into check->ledger, and report what is wrong with entries of tables. */
int qcow2_check_count(struct qcow2_check *check) MUST_CHECK;

/* Could the refcount block of a cluster not be read? */
bool qcow2_check_bad_block(const struct qcow2_check *check, uint64_t cluster);

#endif
