/*
 * A set of clusters of the file: open addressing, 0 is a free slot (cluster 0 is the header and
 * never in a set).
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_SET_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct qcow2_set {
    uint64_t *slots;
    size_t nslots; /* a power of two */
    size_t n;
};

/* -EEXIST if it is in the set already, -ENOMEM. */
int qcow2_set_add(struct qcow2_set *set, uint64_t cluster) MUST_CHECK;

/* Make room for `n` clusters in all: at most half of the slots are used. 0 or -ENOMEM. */
int qcow2_set_reserve(struct qcow2_set *set, size_t n) MUST_CHECK;

bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster);

/* Is one of the clusters [first, last] in the set? */
bool qcow2_set_has_any(const struct qcow2_set *set, uint64_t first, uint64_t last);

void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster);

/* Empty the set and free its memory. */
void qcow2_set_done(struct qcow2_set *set);

#endif
