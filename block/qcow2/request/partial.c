/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A discard is only a hint, so the memory for it is bounded: of two clusters that want the same
 * slot, the later one has it.
 */
#include "block/qcow2/request/partial.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/l2.h"

#define SLOTS_BITS 8u

#define PARTS_BITS 6u
#define SECTOR_BITS 9u

/* Which parts of a cluster the guest has discarded since it last wrote to them. */
struct qcow2_partial {
    uint64_t cluster; /* of the guest's disk */
    uint64_t unused;  /* a bit for each part */
};

/* log2 of a part's length: a 64th of the cluster, but at least a sector. */
static unsigned part_bits(const struct qcow2 *q)
{
    return q->cluster_bits > PARTS_BITS + SECTOR_BITS ? q->cluster_bits - PARTS_BITS : SECTOR_BITS;
}

static uint64_t all_parts(const struct qcow2 *q)
{
    return UINT64_MAX >> (64 - (1u << (q->cluster_bits - part_bits(q))));
}

/* The parts from number `first` to before `end`. */
static uint64_t parts(uint64_t first, uint64_t end)
{
    uint64_t upto_end = end < 64 ? (1ull << end) - 1 : UINT64_MAX;

    return first < end ? upto_end & (UINT64_MAX << first) : 0;
}

static struct qcow2_partial *slot_of(const struct qcow2 *q, uint64_t cluster)
{
    return &q->partial[(cluster * 0x9e3779b97f4a7c15ull) >> (64 - SLOTS_BITS)];
}

bool qcow2_partial_discard(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t cluster = off >> q->cluster_bits;
    uint64_t in = qcow2_in_cluster(q, off);
    uint64_t end = off + len == q->block.len ? q->cluster_size : in + len;
    struct qcow2_partial *slot;

    if (!q->partial)
        q->partial = calloc(1u << SLOTS_BITS, sizeof(*q->partial));
    if (!q->partial)
        return false;
    slot = slot_of(q, cluster);
    if (slot->cluster != cluster)
        *slot = (struct qcow2_partial){.cluster = cluster};
    slot->unused |= parts(div_round_up(in, 1ull << part_bits(q)), end >> part_bits(q));
    if (slot->unused != all_parts(q))
        return false;
    slot->unused = 0;
    return true;
}

void qcow2_partial_write(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t end = off + len;

    for (uint64_t at = off; q->partial && at < end;) {
        uint64_t cluster = at >> q->cluster_bits;
        uint64_t next = min_u64(end, (cluster + 1) << q->cluster_bits);
        struct qcow2_partial *slot = slot_of(q, cluster);

        if (slot->cluster == cluster)
            slot->unused &= ~parts(qcow2_in_cluster(q, at) >> part_bits(q),
                                   (qcow2_in_cluster(q, next - 1) >> part_bits(q)) + 1);
        at = next;
    }
}

void qcow2_partial_forget(struct qcow2 *q)
{
    free(q->partial);
    q->partial = NULL;
}
