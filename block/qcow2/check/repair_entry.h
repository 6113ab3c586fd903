/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a repair changes single entries of L1 and L2 tables, and what can be right in them.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_ENTRY_H
#define MINIVMM_BLOCK_QCOW2_CHECK_REPAIR_ENTRY_H

#include "block/qcow2/check/check_state.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/snaptable.h"

/*
 * An L1 entry, or an L2 entry, as a repair leaves it, except for COPIED: bits that must not be set
 * are cleared, and entries that cannot point at anything read as zero.
 */
uint64_t qcow2_repair_l1_entry(const struct qcow2_check *check, uint64_t entry);
void qcow2_repair_l2_entry(const struct qcow2_check *check, struct qcow2_entry *entry);

/* Can a snapshot have an L1 table of this length in this place? */
bool qcow2_check_l1_ok(const struct qcow2_check *check, const struct qcow2_snapshot *snapshot);

/* Does a range reach past the end of the file by a cluster or more? A file may end inside one. */
bool qcow2_check_outside(const struct qcow2_check *check, uint64_t host, uint64_t len);

#endif
