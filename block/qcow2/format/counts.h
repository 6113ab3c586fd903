/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A number in memory for each cluster of an image file: how many references the cluster has. The
 * numbers are sparse, so that they cost about a byte for each cluster in use, and bounded, whatever
 * an image claims.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_COUNTS_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_COUNTS_H

#include <stdint.h>

#include "base/compiler.h"

/* The most clusters of a file that is checked or changed as a whole. QEMU's checker has it too. */
#define QCOW2_COUNTS_CLUSTERS_MAX (1ull << 31)

/* The most memory of one struct qcow2_counts: enough for 64 TiB of used clusters of 64 KiB. */
#define QCOW2_COUNTS_BYTES_MAX (1ull << 30)

struct qcow2_counts_page;

struct qcow2_counts {
    struct qcow2_counts_page **pages;
    uint64_t npages;
    uint64_t end;   /* from this cluster on all counts are zero */
    uint64_t bytes; /* of memory */
};

/* Make all counts zero; the memory of `counts` is not looked at. */
void qcow2_counts_init(struct qcow2_counts *counts);

/* Free the memory and make all counts zero. */
void qcow2_counts_done(struct qcow2_counts *counts);

/* The count of any `cluster`: zero where none was set. */
uint64_t qcow2_counts_get(const struct qcow2_counts *counts, uint64_t cluster);

/* Set the count of `cluster`. Returns 0; -ENOMEM; -EFBIG beyond one of the limits. */
int qcow2_counts_set(struct qcow2_counts *counts, uint64_t cluster, uint64_t value) MUST_CHECK;

/* The first cluster in [from, end) whose count is not zero; `end` if there is none. */
uint64_t qcow2_counts_next(const struct qcow2_counts *counts, uint64_t from, uint64_t end);

/* The cluster after the last one below `end` whose count is not zero; 0 if there is none. */
uint64_t qcow2_counts_used_end(const struct qcow2_counts *counts, uint64_t end);

/* The first cluster in [from, end) whose counts in `a` and `b` differ; `end` if there is none. */
uint64_t qcow2_counts_differ(const struct qcow2_counts *a, const struct qcow2_counts *b,
                             uint64_t from, uint64_t end);

#endif
