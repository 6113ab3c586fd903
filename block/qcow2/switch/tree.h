/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of an image: an L1 table and what it refers to.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_TREE_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_TREE_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

/* Add the L2 tables that `n` L1 entries refer to. -EIO for entries that make no sense. */
int qcow2_tree_list_tables(const struct qcow2 *q, const uint64_t *entries, uint32_t n,
                           struct qcow2_tablist *list) MUST_CHECK;

enum {
    QCOW2_TREE_TABLES = 1 << 0, /* the L2 tables */
    QCOW2_TREE_DATA = 1 << 1,   /* what they point at, unless that is in an external data file */
};

/*
 * Change the refcounts of what `n` L1 entries refer to; not of the L1 table itself. Each L2 table
 * is read once, neighbours together. -EIO for entries that make no sense, -ERANGE as
 * qcow2_ledger_add.
 */
int qcow2_tree_add(struct qcow2_ledger *ledger, const uint64_t *entries, uint32_t n, unsigned which,
                   int64_t delta) MUST_CHECK;

enum qcow2_tree_copy {
    QCOW2_COPY_ALL,     /* every L2 table */
    QCOW2_COPY_CHANGED, /* those that have wrong COPIED flags; the old ones lose a reference */
};

/*
 * Once all refcounts are final: write copies of L2 tables whose COPIED flags agree with them, and
 * change the L1 entries in memory to match. With COPY_ALL the old tables' refcounts stay as they
 * are.
 */
int qcow2_tree_copy_tables(struct qcow2_ledger *ledger, uint64_t *entries, uint32_t n,
                           enum qcow2_tree_copy which) MUST_CHECK;

#endif
