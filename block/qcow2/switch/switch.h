/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switches an image to new tables with one write of the header.
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
    uint64_t incompatible; /* from here on: version 3 only */
    uint64_t compatible;
    uint64_t autoclear;
    unsigned refcount_order; /* a caller that changes it changes q->refcount_order too */
    bool set_bitmaps;        /* point at `bitmaps`; `autoclear` has to agree */
    struct qcow2_bitmaps bitmaps;
};

/* Fill *ret_next with what the header says now. Returns 0 or -errno. */
int qcow2_switch_init(struct qcow2 *q, struct qcow2_switch *ret_next) MUST_CHECK;

/*
 * Write the refcounts to new refcount blocks and a new refcount table (blocks that do not change
 * stay where they are), switch the header over, and reload the image. The old refcount table and
 * blocks are counted down here; other old tables were counted down by the caller.
 *
 * Returns 0 or -errno. After a failure before the header is written, the image is as it was, in
 * memory and in the file. After a later one the file may have the old state or the new one, and
 * nothing is written to the image any more.
 */
int qcow2_switch_over(struct qcow2_ledger *ledger, const struct qcow2_switch *next) MUST_CHECK;

#endif
