/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The L1 table and the refcount table in memory: all of a table, in host byte order, with what has
 * to be written back.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_TABLE_H
#define MINIVMM_BLOCK_QCOW2_META_TABLE_H

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

/*
 * Read a table. What it takes of memory is taken off *left, unless that is NULL.
 * 0 or -errno: -EDQUOT if that is not enough.
 */
int qcow2_table_load(struct qcow2 *q, struct qcow2_table *table, uint64_t *left) MUST_CHECK;
void qcow2_table_set(struct qcow2_table *table, uint32_t i, uint64_t entry);
void qcow2_table_done(struct qcow2_table *table);

/*
 * Read an L1 table in host byte order; *ret_entries is to be freed. -EIO for one outside the file.
 */
int qcow2_l1_read(struct qcow2 *q, uint64_t host, uint32_t n, uint64_t **ret_entries) MUST_CHECK;

/*
 * A cluster becomes an L2 table or a refcount block without entries: make it read as zero in the
 * file, and the file long enough to hold it. Entries that nobody has written are read from there.
 * `fresh`: it reads as zero already, if the file is that long.
 */
int qcow2_table_zero(struct qcow2 *q, uint64_t host, bool fresh) MUST_CHECK;

/* Bytes of the file that a table takes. */
static inline uint64_t qcow2_table_len(const struct qcow2 *q, const struct qcow2_table *table)
{
    return align_up(table->n * sizeof(uint64_t), q->cluster_size);
}

#endif
