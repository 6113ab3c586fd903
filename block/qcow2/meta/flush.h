/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing metadata back, in an order that survives a crash.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FLUSH_H
#define MINIVMM_BLOCK_QCOW2_META_FLUSH_H

#include "block/qcow2/qcow2.h"

/* Make everything durable that was completed when this was called. */
int qcow2_flush(struct qcow2 *q) MUST_CHECK;

/*
 * Only write back what is dirty now, late refcounts too, without releasing clusters; q->lock may be
 * held.
 */
int qcow2_write_back(struct qcow2 *q) MUST_CHECK;

/*
 * Write the refcounts that were left for later, give back the stock: the file counts what is in
 * use, and is not dirty any more. Nothing is in flight.
 */
int qcow2_settle(struct qcow2 *q) MUST_CHECK;

/*
 * Leave the file as if nobody had it open: everything is written back and settled, and the file is
 * as long as it needs to be. Nothing is in flight.
 */
int qcow2_finish(struct qcow2 *q) MUST_CHECK;

/* Write metadata back if much of it is dirty. Holding no lock. */
int qcow2_bound_dirty(struct qcow2 *q) MUST_CHECK;

#endif
