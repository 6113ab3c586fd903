/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of an image: an L1 table, its L2 tables, and the clusters that they point at. For a switch
 * they are counted in the ledger, and their L2 tables are copied.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_TREE_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_TREE_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

/*
 * Add to `list` the L2 tables that `n` L1 entries point at. Returns 0; -EIO if an entry makes no
 * sense; or another -errno.
 */
int qcow2_tree_list_tables(const struct qcow2 *q, const uint64_t *entries, uint32_t n,
                           struct qcow2_tablist *list) MUST_CHECK;

enum {
    QCOW2_TREE_TABLES = 1 << 0, /* the L2 tables */
    QCOW2_TREE_DATA = 1 << 1,   /* what they point at, unless that is in an external data file */
};

/*
 * Change the refcounts of what `n` L1 entries point at (`which`), not of the L1 table itself. Each
 * L2 table is read once. Returns 0; -EIO if an entry makes no sense; -ERANGE as qcow2_ledger_add;
 * or another -errno.
 */
int qcow2_tree_add(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n, unsigned which,
                   int64_t delta) MUST_CHECK;

enum qcow2_tree_copy {
    QCOW2_COPY_ALL,     /* every L2 table */
    QCOW2_COPY_CHANGED, /* tables with wrong COPIED flags; the old ones are counted down */
};

/*
 * Write copies of L2 tables with COPIED flags that agree with the refcounts in the ledger, and let
 * the L1 entries in memory point at them; to be called once all other refcounts are final. With
 * QCOW2_COPY_ALL the refcounts of the old tables stay as they are. Returns 0 or -errno.
 */
int qcow2_tree_copy_tables(struct qcow2_ledger *ledger, uint64_t *entries, uint32_t n,
                           enum qcow2_tree_copy which) MUST_CHECK;

#endif
