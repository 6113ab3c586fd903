/*
 * A number for each cluster of an image file, in memory: how often it is referred to. Sparse, so
 * that it costs about a byte for each cluster in use, and bounded, whatever an image claims.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_COUNTS_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_COUNTS_H

#include <stdint.h>

#include "base/compiler.h"

/* Clusters of an image that is checked or changed as a whole: QEMU's limit for its checker. */
#define QCOW2_COUNTS_CLUSTERS_MAX (1ull << 31)

/* Memory for one struct qcow2_counts: 64 TiB of 64 KiB clusters that are all in use. */
#define QCOW2_COUNTS_BYTES_MAX (1ull << 30)

struct qcow2_counts_page;

struct qcow2_counts {
    struct qcow2_counts_page **pages;
    uint64_t npages;
    uint64_t end;   /* no cluster from here on is counted */
    uint64_t bytes; /* of memory */
};

void qcow2_counts_init(struct qcow2_counts *counts);
void qcow2_counts_done(struct qcow2_counts *counts);

uint64_t qcow2_counts_get(const struct qcow2_counts *counts, uint64_t cluster);

/* -ENOMEM; -EFBIG beyond one of the limits. */
int qcow2_counts_set(struct qcow2_counts *counts, uint64_t cluster, uint64_t value) MUST_CHECK;

/* The first cluster in [from, end) whose count is not zero; `end` if there is none. */
uint64_t qcow2_counts_next(const struct qcow2_counts *counts, uint64_t from, uint64_t end);

/* The cluster after the last one below `end` whose count is not zero; 0 if there is none. */
uint64_t qcow2_counts_used_end(const struct qcow2_counts *counts, uint64_t end);

/* The first cluster in [from, end) that the two count differently; `end` if there is none. */
uint64_t qcow2_counts_differ(const struct qcow2_counts *a, const struct qcow2_counts *b,
                             uint64_t from, uint64_t end);

#endif
