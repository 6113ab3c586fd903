/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes L2 tables that may be changed, since no snapshot uses them; and frees what their entries
 * have pointed at.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_OWN_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_OWN_H

#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

/*
 * Get the slice that has the entry of `off`, in a table that only the active disk uses. If there is
 * none, a new table is made; if a snapshot uses the table too, a copy. The caller puts the slice
 * with qcow2_slice_put. Returns 0 or -errno. With q->lock held.
 */
int qcow2_own_slice(struct qcow2 *q, uint64_t off, struct qcow2_slice **ret_slice) MUST_CHECK;

/*
 * Add to q->freed what `entry` points at, the entry of `off` that is about to change. `punch`: its
 * space goes back to the host. The caller holds the cluster at `off` exclusively, and q->lock.
 */
void qcow2_free_entry(struct qcow2 *q, uint64_t off, const struct qcow2_entry *entry, bool punch);

#endif
