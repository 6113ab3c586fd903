/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger: the refcounts of a whole image in memory, as they are and as they are to be.
 *
 * Changes of a whole image (snapshots, repair, rebuilt refcounts) do not change tables in place.
 * They build complete new ones in space that neither the old nor the new state uses, and then write
 * the header once: it points at the L1 table, the snapshot table and the refcount table with fields
 * that all lie in its first sector, so the power can fail at any moment and the image is either the
 * old one or the new one, each without a leak.
 *
 *     qcow2_ledger_new, qcow2_ledger_load   refcounts as the image has them
 *     qcow2_ledger_add, qcow2_tree_add      … and as they are to be
 *     qcow2_ledger_alloc, qcow2_put, …      new tables, in clusters that neither state uses
 *     qcow2_switch_over                     new refcounts, one header write; the image is reloaded
 *     qcow2_ledger_free
 *
 * The image is not attached, no request is in flight, and qcow2_ledger_new writes it back. Clusters
 * that lost their last reference may be taken only after the switch. Without a switch the image
 * stays as it was.
 */
#ifndef MINIVMM_BLOCK_QCOW2_SWITCH_LEDGER_H
#define MINIVMM_BLOCK_QCOW2_SWITCH_LEDGER_H

#include "block/qcow2/format/counts.h"
#include "block/qcow2/format/set.h"
#include "block/qcow2/qcow2.h"

struct qcow2_ledger {
    struct qcow2 *q;
    uint64_t max;             /* the largest refcount that the image can hold */
    struct qcow2_counts was;  /* what the refcount blocks say */
    struct qcow2_counts now;  /* what they will say */
    struct qcow2_set dropped; /* counted up and down since, but not in the file: not free either */
    uint64_t next;            /* where to look for free clusters */
    uint64_t move_from;       /* refcount blocks from here on are placed anew; UINT64_MAX: none */
    bool switched;            /* the new state is in the file, durably */
};

/* Begin with empty counts. A writable image is written back first. Returns 0 or -errno. */
int qcow2_ledger_new(struct qcow2 *q, struct qcow2_ledger **ret_ledger) MUST_CHECK;

/* NULL is fine. */
void qcow2_ledger_free(struct qcow2_ledger *ledger);

/*
 * Fill `was` and `now` with the refcounts in the file. Returns 0; -EIO if the refcount table is
 * damaged; -EUCLEAN if the refcounts are out of date (the image is dirty); -EFBIG beyond the limits
 * in format/counts.h; or another -errno.
 */
int qcow2_ledger_load(struct qcow2_ledger *ledger) MUST_CHECK;

/* The refcount that the cluster of `host` is to have. */
uint64_t qcow2_ledger_get(const struct qcow2_ledger *ledger, uint64_t host);

/*
 * Change the counts of all clusters that [host, host + len) touches. Returns 0; -ERANGE if one
 * would fall below zero or not fit the image's refcount width, after those before it are changed;
 * or another -errno.
 */
int qcow2_ledger_add(struct qcow2_ledger *ledger, uint64_t host, uint64_t len,
                     int64_t delta) MUST_CHECK;

/* Can an entry of the refcount table be the place of a refcount block? */
bool qcow2_refblock_ok(const struct qcow2 *q, uint64_t entry);

/* Take a run for `len` bytes that neither state uses; its counts become one. 0, -EFBIG, -ENOMEM. */
int qcow2_ledger_alloc(struct qcow2_ledger *ledger, uint64_t len, uint64_t *ret_host) MUST_CHECK;

#endif
