/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a check: every reference is counted, and the counts are compared with what the
 * refcount blocks say.
 */
#ifndef MINIVMM_BLOCK_QCOW2_CHECK_CHECK_STATE_H
#define MINIVMM_BLOCK_QCOW2_CHECK_CHECK_STATE_H

#include "block/qcow2/format/set.h"
#include "block/qcow2/meta/snaptable.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"
#include "block/qcow2/switch/walk.h"

struct qcow2_check {
    struct qcow2_walk walk;
    struct qcow2 *q;
    struct err *err;
    struct block_check_report *report; /* NULL: nothing is reported */
    struct block_check_result result;

    unsigned fix; /* BLOCK_FIX_…: what will be repaired */

    /* Count entries as a repair would leave them, instead of reporting what is wrong with them. */
    bool repaired;

    /* Read a snapshot table that breaks limits as far as that is possible. */
    bool salvage;

    uint64_t file_len;
    uint64_t nclusters;          /* of the file, and those past its end that are referred to */
    uint64_t l1_budget;          /* bytes of L1 and bitmap tables that may still be read */
    struct qcow2_ledger *ledger; /* was: the counts in the file; now: the references found */
    struct qcow2_set bad_blocks; /* indices + 1 of refcount blocks that cannot be read */
    struct qcow2_tablist tables; /* L2 tables */
    struct qcow2_snaptable snapshots;
    struct qcow2_bitmaps bitmaps;
    bool drop_bitmaps; /* the bitmaps are broken beyond repair */
    bool rebuild;      /* refcount blocks are missing, or count clusters in use as free */

    /*
     * Wrong COPIED flags are no part of the result yet: which of them a repair changes depends on
     * the counts that it writes.
     */
    uint64_t wrong_flags;
    char *late; /* lines that will report them, each with a zero byte at its end */
    size_t late_len;
};

#endif
