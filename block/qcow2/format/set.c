/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/format/set.h"

#include <errno.h>
#include <stdlib.h>

/* The slot that has `cluster`, or else the free slot where it belongs. */
static size_t slot_of(const struct qcow2_set *set, uint64_t cluster)
{
    size_t i = (size_t)((cluster * 0x9e3779b97f4a7c15ull) >> 32) & (set->nslots - 1);

    while (set->slots[i] != 0 && set->slots[i] != cluster)
        i = (i + 1) & (set->nslots - 1);
    return i;
}

bool qcow2_set_has(const struct qcow2_set *set, uint64_t cluster)
{
    return set->nslots > 0 && set->slots[slot_of(set, cluster)] == cluster;
}

/* Look for each of the clusters, or at each slot of the set, whichever takes fewer steps. */
bool qcow2_set_has_any(const struct qcow2_set *set, uint64_t first, uint64_t last)
{
    if (last - first < set->nslots) {
        for (uint64_t cluster = first; cluster <= last; cluster++)
            if (qcow2_set_has(set, cluster))
                return true;
        return false;
    }
    for (size_t i = 0; i < set->nslots; i++)
        if (set->slots[i] != 0 && set->slots[i] >= first && set->slots[i] <= last)
            return true;
    return false;
}

int qcow2_set_reserve(struct qcow2_set *set, size_t n)
{
    struct qcow2_set bigger = {.nslots = set->nslots ? set->nslots : 32, .n = set->n};

    while (bigger.nslots < n * 2)
        bigger.nslots *= 2;
    if (bigger.nslots == set->nslots)
        return 0;
    bigger.slots = calloc(bigger.nslots, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < set->nslots; i++)
        if (set->slots[i] != 0)
            bigger.slots[slot_of(&bigger, set->slots[i])] = set->slots[i];
    free(set->slots);
    *set = bigger;
    return 0;
}

int qcow2_set_add(struct qcow2_set *set, uint64_t cluster)
{
    int r = qcow2_set_reserve(set, set->n + 1);
    size_t i;

    if (r < 0)
        return r;
    i = slot_of(set, cluster);
    if (set->slots[i] == cluster)
        return -EEXIST;
    set->slots[i] = cluster;
    set->n++;
    return 0;
}

void qcow2_set_remove(struct qcow2_set *set, uint64_t cluster)
{
    size_t mask = set->nslots - 1;
    size_t hole;

    if (!qcow2_set_has(set, cluster))
        return;
    hole = slot_of(set, cluster);
    set->slots[hole] = 0;
    set->n--;

    /*
     * The removed cluster may have pushed those in the following slots, up to the next free one,
     * out of their places: put each of them where it belongs now.
     */
    for (size_t i = (hole + 1) & mask; set->slots[i] != 0; i = (i + 1) & mask) {
        uint64_t moved = set->slots[i];

        set->slots[i] = 0;
        set->slots[slot_of(set, moved)] = moved;
    }
}

void qcow2_set_done(struct qcow2_set *set)
{
    free(set->slots);
    *set = (struct qcow2_set){0};
}
