/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The L1 table and the refcount table in memory: whole tables in host byte order, with a bit for
 * each piece that has to be written back.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_TABLE_H
#define MINIVMM_BLOCK_QCOW2_META_TABLE_H

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

/*
 * Read the table->n entries at table->host. The memory that they take is subtracted from *left,
 * unless `left` is NULL. Returns 0; -EDQUOT if *left is not enough; or another -errno.
 */
int qcow2_table_load(struct qcow2 *q, struct qcow2_table *table, uint64_t *left) MUST_CHECK;

/* Change entry `i` in memory; the next flush writes it (meta/flush). */
void qcow2_table_set(struct qcow2_table *table, uint32_t i, uint64_t entry);

/* Free the memory. */
void qcow2_table_done(struct qcow2_table *table);

/*
 * Read an L1 table of `n` entries in host byte order; the caller frees *ret_entries. Returns 0;
 * -EIO for a table that lies outside the file or not at a cluster; -ENOMEM.
 */
int qcow2_l1_read(struct qcow2 *q, uint64_t host, uint32_t n, uint64_t **ret_entries) MUST_CHECK;

/*
 * The cluster at `host` becomes an L2 table or a refcount block without entries: make it read as
 * zero in the file, and the file long enough to hold it, since slices that were never written are
 * read from there. `fresh`: the cluster reads as zero already, if the file is that long.
 */
int qcow2_table_zero(struct qcow2 *q, uint64_t host, bool fresh) MUST_CHECK;

/* Bytes of the file that a table takes: whole clusters. */
static inline uint64_t qcow2_table_len(const struct qcow2 *q, const struct qcow2_table *table)
{
    return align_up(table->n * sizeof(uint64_t), q->cluster_size);
}

#endif
