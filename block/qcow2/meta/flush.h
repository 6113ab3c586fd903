/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing metadata back, in an order that survives a crash. Requests go on meanwhile. All functions
 * return 0 or -errno.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_FLUSH_H
#define MINIVMM_BLOCK_QCOW2_META_FLUSH_H

#include "block/qcow2/qcow2.h"

/* Make durable all requests that were completed when this was called. Holding no lock. */
int qcow2_flush(struct qcow2 *q) MUST_CHECK;

/*
 * Write back what is dirty now, refcounts of an image with lazy refcounts too. Freed clusters are
 * not counted down, so q->lock may be held.
 */
int qcow2_write_back(struct qcow2 *q) MUST_CHECK;

/*
 * Write the refcounts that flushes have left unwritten, give back the stock, and clear the dirty
 * bit: the refcounts in the file are those of the clusters in use. No request is in flight.
 */
int qcow2_settle(struct qcow2 *q) MUST_CHECK;

/*
 * Leave the file as it is to be when the image is closed: everything is written back and settled,
 * and the file is as long as it needs to be. No request is in flight.
 */
int qcow2_finish(struct qcow2 *q) MUST_CHECK;

/* Write metadata back if much of the cache is dirty. Holding no lock. */
int qcow2_bound_dirty(struct qcow2 *q) MUST_CHECK;

#endif
