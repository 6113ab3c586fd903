/* SPDX-License-Identifier: Apache-2.0 */
#include "block/dirty.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define WORD_BITS 64u

static bool is_marked(const struct block_dirty *dirty, uint64_t unit)
{
    return dirty->bits[unit / WORD_BITS] >> unit % WORD_BITS & 1;
}

static void set(struct block_dirty *dirty, uint64_t unit, bool marked)
{
    if (is_marked(dirty, unit) == marked)
        return;
    dirty->bits[unit / WORD_BITS] ^= 1ull << unit % WORD_BITS;
    dirty->ndirty += marked ? 1 : -1ull;
}

/* The loop of the disk waits: each word is written once, and there are few. */
struct block_dirty *block_dirty_new(uint64_t len)
{
    struct block_dirty *dirty;
    uint64_t unit = BLOCK_DIRTY_UNIT_MIN;
    uint64_t nunits;
    size_t size;

    while (div_round_up(len, unit) > BLOCK_DIRTY_UNITS_MAX)
        unit *= 2;
    nunits = div_round_up(len, unit);
    size = div_round_up(nunits, WORD_BITS) * sizeof(uint64_t);
    dirty = malloc(sizeof(*dirty) + size);
    if (!dirty)
        return NULL;
    *dirty = (struct block_dirty){.unit = unit, .nunits = nunits, .ndirty = nunits};
    memset(dirty->bits, 0xff, size); /* nobody looks at the bits past the last unit */
    return dirty;
}

void block_dirty_mark(struct block_dirty *dirty, uint64_t off, uint64_t len)
{
    uint64_t end = div_round_up(off + len, dirty->unit);

    for (uint64_t unit = off / dirty->unit; unit < end; unit++)
        set(dirty, unit, true);
}

uint64_t block_dirty_take(struct block_dirty *dirty, uint64_t *unit, uint64_t max)
{
    uint64_t first = *unit;
    uint64_t n = 0;

    while (first < dirty->nunits && !is_marked(dirty, first))
        first = dirty->bits[first / WORD_BITS] == 0 ? align_down(first, WORD_BITS) + WORD_BITS
                                                    : first + 1;
    while (n < max && first + n < dirty->nunits && is_marked(dirty, first + n))
        set(dirty, first + n++, false);
    *unit = first;
    return n;
}
