/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/clear_entries.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/l2.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/own.h"

/* What an entry says of its whole cluster, as far as clearing depends on it. */
struct clearance {
    bool below;       /* a backing file may show here, now or later */
    bool unallocated; /* the cluster has no data, no space and no zeroes here */
    bool reads_zero;
};

/*
 * Has any image below something at `off`? A short one hides what those below it have, but only
 * until it is dropped: the disk is in use then, and shows the same (stream.c).
 */
static bool is_below(const struct qcow2 *q, uint64_t off)
{
    for (const struct block *layer = q->block.backing; layer; layer = layer->backing)
        if (off < layer->len)
            return true;
    return false;
}

static int look_at(const struct qcow2 *q, const struct qcow2_entry *entry, uint64_t cluster_off,
                   enum qcow2_clear how, struct clearance *ret_c)
{
    struct qcow2_extent extent;
    int r = qcow2_extent_decode(q, entry, cluster_off, &extent);
    bool uniform = extent.len == q->cluster_size;

    if (r < 0)
        return r;
    ret_c->below = how == QCOW2_CLEAR_ZERO_OWN || is_below(q, cluster_off);
    ret_c->unallocated = uniform && extent.kind == QCOW2_UNALLOCATED && !extent.has_space;
    ret_c->reads_zero = uniform && (extent.kind == QCOW2_ZEROES ||
                                    (extent.kind == QCOW2_UNALLOCATED && !ret_c->below));
    return 0;
}

/* An entry as it is in the file. */
struct raw_entry {
    uint64_t entry;
    uint64_t bitmap;
};

/* The entry of a cluster that reads as zero and has the space of `entry`; none if that is 0. */
static struct raw_entry zero_entry(const struct qcow2 *q, uint64_t entry)
{
    if (qcow2_has_subclusters(q))
        return (struct raw_entry){entry, QCOW2_BITMAP_ZERO};
    return (struct raw_entry){entry | QCOW2_ZERO, 0};
}

/* Set *ret_entry to what `old` becomes. -ENOTSUP if no entry can say this. */
static int cleared_entry(const struct qcow2 *q, uint64_t cluster_off, const struct qcow2_entry *old,
                         enum qcow2_clear how, struct raw_entry *ret_entry)
{
    bool keep = qcow2_clear_keeps_space(how) || q->raw_data;
    struct clearance c;
    int r = look_at(q, old, cluster_off, how, &c);

    if (r < 0)
        return r;
    if ((c.reads_zero && (keep || !old->has_space)) ||
        (c.unallocated && how == QCOW2_CLEAR_DISCARD))
        *ret_entry = (struct raw_entry){old->entry, old->bitmap}; /* nothing has to change */
    else if (keep && qcow2_has_own_space(old) && q->version >= 3)
        *ret_entry = zero_entry(q, old->entry);
    else if (!c.below)
        *ret_entry = (struct raw_entry){0, 0};
    else if (q->version >= 3)
        *ret_entry = zero_entry(q, 0);
    else
        return -ENOTSUP;
    return 0;
}

static int clear_cluster(struct qcow2 *q, struct qcow2_slice *slice, uint64_t cluster_off,
                         enum qcow2_clear how)
{
    unsigned i = qcow2_slice_index(q, cluster_off);
    struct qcow2_entry old = qcow2_entry_get(q, slice, i);
    struct raw_entry entry = {old.entry, old.bitmap};
    int r = cleared_entry(q, cluster_off, &old, how, &entry);

    if (r == -ENOTSUP && how == QCOW2_CLEAR_DISCARD)
        return 0; /* a hint that cannot be followed */
    if (r < 0 || (entry.entry == old.entry && entry.bitmap == old.bitmap))
        return r;
    if ((entry.entry & QCOW2_OFF_MASK) == 0)
        qcow2_free_entry(q, cluster_off, &old, !qcow2_clear_keeps_space(how) && q->block.discard);
    qcow2_entry_set(q, slice, i, entry.entry, entry.bitmap);
    return 0;
}

/* Let the subclusters in [off, end) read as zero; the cluster keeps the space that it has. */
static int clear_subclusters(struct qcow2 *q, struct qcow2_slice *slice, uint64_t off, uint64_t end)
{
    unsigned i = qcow2_slice_index(q, off);
    struct qcow2_entry entry = qcow2_entry_get(q, slice, i);
    uint64_t mask = qcow2_subcluster_mask(q, align_down(off, q->cluster_size), off, end);

    if (entry.kind == QCOW2_PACKED)
        return -ENOTSUP;
    qcow2_entry_set(q, slice, i, entry.entry, (entry.bitmap & ~mask) | (mask << 32));
    return 0;
}

/* Is there no L2 table for `off`, and nothing to be done without one? */
static bool is_clear(const struct qcow2 *q, uint64_t off, enum qcow2_clear how)
{
    return how != QCOW2_CLEAR_ZERO_OWN &&
           (q->l1.entries[qcow2_l1_index(q, off)] & QCOW2_OFF_MASK) == 0 &&
           (how == QCOW2_CLEAR_DISCARD || !is_below(q, off));
}

uint64_t qcow2_clear_piece(const struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t rest = q->cluster_size - qcow2_in_cluster(q, off);

    if (rest < q->cluster_size || len < q->cluster_size)
        return min_u64(len, rest);
    return align_down(min_u64(len, qcow2_slice_rest(q, off)), q->cluster_size);
}

int qcow2_clear_entries(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    uint64_t end = off + len;
    struct qcow2_slice *slice;
    int r = 0;

    co_mutex_lock(&q->lock);
    if (!is_clear(q, off, how)) {
        r = qcow2_own_slice(q, off, &slice);
        if (r == 0) {
            if (end - off < q->cluster_size)
                r = clear_subclusters(q, slice, off, end);
            for (uint64_t at = off; at + q->cluster_size <= end && r == 0; at += q->cluster_size)
                r = clear_cluster(q, slice, at, how);
            qcow2_slice_put(q, slice);
        }
    }
    co_mutex_unlock(&q->lock);
    return r;
}
