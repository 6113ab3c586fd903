/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switching an image over to new tables: one write of the header.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_SWITCH_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_SWITCH_H

#include "block/qcow2/qcow2.h"
#include "block/qcow2/switch/ledger.h"

/* What the header is to say. */
struct qcow2_switch {
    uint64_t size; /* of the disk */
    uint64_t l1_host;
    uint32_t l1_n;
    uint64_t snapshots_host;
    uint32_t nsnapshots;
    uint64_t incompatible; /* version 3, like the rest */
    uint64_t compatible;
    uint64_t autoclear;
    unsigned refcount_order; /* q->refcount_order, which the caller changes with the refcounts */
    bool set_bitmaps;        /* another directory of bitmaps; `autoclear` says so too */
    struct qcow2_bitmaps bitmaps;
};

/* What it says now. */
int qcow2_switch_init(struct qcow2 *q, struct qcow2_switch *ret_next) MUST_CHECK;

/*
 * Write the refcounts to new refcount blocks and a new refcount table (blocks that do not change
 * stay where they are), switch the header over, and reload the image. The old refcount table's own
 * references are dropped here, those of other tables are the caller's matter.
 *
 * 0 or -errno; after a failure the image in memory is as it was before, and so is the file unless
 * it was the header's own barrier that failed. -EUCLEAN if `next` leaves what it must not.
 */
int qcow2_switch_over(struct qcow2_ledger *ledger, const struct qcow2_switch *next) MUST_CHECK;

#endif
