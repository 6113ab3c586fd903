/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of clusters of the image file, as a hash table with open addressing. A free slot has 0,
 * since cluster 0 is the header and never in a set. A set of zeroes is empty and ready for use.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_SET_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct qcow2_set {
    uint64_t *slots;
    size_t nslots; /* a power of two, at least 2 * n */
    size_t n;
};

/* Returns 0; -EEXIST if the set has `cluster` already; -ENOMEM. */
int qcow2_set_add(struct qcow2_set *set, uint64_t cluster) MUST_CHECK;

/* Make room for `n` clusters in all, so that adding them needs no memory. Returns 0 or -ENOMEM. */
int qcow2_set_reserve(struct qcow2_set *set, size_t n) MUST_CHECK;

bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster);

/* Is one of the clusters [first, last] in the set? */
bool qcow2_set_has_any(const struct qcow2_set *set, uint64_t first, uint64_t last);

/* Remove `cluster`, if the set has it. */
void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster);

/* Empty the set and free its memory. */
void qcow2_set_done(struct qcow2_set *set);

#endif
