/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which parts of a disk requests have changed, since somebody looked.
 */
#ifndef MINIVMM_BLOCK_DIRTY_H
#define MINIVMM_BLOCK_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* The shortest parts. They are longer on a disk that would have more than UNITS_MAX of them. */
#define BLOCK_DIRTY_UNIT_MIN (64u << 10)
#define BLOCK_DIRTY_UNITS_MAX (16u << 20)

struct block_dirty {
    uint64_t unit; /* the length of the parts, a power of two */
    uint64_t nunits;
    uint64_t ndirty;
    uint64_t bits[];
};

/* For a disk of `len` bytes, all of it marked. To be freed with free. NULL: there is no memory. */
struct block_dirty *block_dirty_new(uint64_t len);

void block_dirty_mark(struct block_dirty *dirty, uint64_t off, uint64_t len);

/*
 * Find the first marked unit from *unit on, and take its mark and those of its neighbours, `max` of
 * them at most: they begin at *unit, and their number is returned. 0: there are none.
 */
uint64_t block_dirty_take(struct block_dirty *dirty, uint64_t *unit, uint64_t max);

#endif
