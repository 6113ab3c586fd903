/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L2 tables that may be changed in place: those that no snapshot uses. And letting go of what their
 * entries point at.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_OWN_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_OWN_H

#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

/*
 * Get the slice that has the entry of `off` in a table that only the active disk uses; a new one,
 * or a copy, if need be. To be put with qcow2_slice_put. With q->lock held.
 */
int qcow2_own_slice(struct qcow2 *q, uint64_t off, struct qcow2_slice **ret_slice) MUST_CHECK;

/*
 * The guest no longer uses what the entry of `off` points at: remember to count it down. `punch`:
 * its space goes back to the host. With q->lock held.
 */
void qcow2_free_entry(struct qcow2 *q, uint64_t off, const struct qcow2_entry *entry, bool punch);

#endif
