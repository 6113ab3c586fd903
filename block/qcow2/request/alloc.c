/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/alloc.h"

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/clusters.h"
#include "block/qcow2/meta/refcount.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/l2.h"
#include "block/qcow2/request/map.h"
#include "block/qcow2/request/own.h"
#include "block/qcow2/request/partial.h"

/* ---- allocating writes ----------------------------------------------------------------------- */

/* Does the cluster of entry `i` hold something? That moves when the cluster gets new space. */
static bool has_data(const struct qcow2 *q, const struct qcow2_slice *slice, unsigned i)
{
    return qcow2_entry_get(q, slice, i).has_space;
}

/* The number of clusters from entry `i` on, at most `max`, that need new space for a write. */
static unsigned count_homeless(const struct qcow2 *q, const struct qcow2_slice *slice, unsigned i,
                               uint64_t max)
{
    unsigned n = 0;

    for (; n < max && i + n < qcow2_slice_entries(q); n++) {
        struct qcow2_entry entry = qcow2_entry_get(q, slice, i + n);

        if (qcow2_has_own_space(&entry))
            break;
    }
    return n;
}

/* In an external data file each cluster has the offset that it has on the disk. */
static void place_in_data_file(struct qcow2 *q, uint64_t n, struct qcow2_alloc *alloc)
{
    uint64_t host = align_down(alloc->start, q->cluster_size);
    uint64_t hole_end;

    alloc->n = n;
    alloc->host = host;
    alloc->fresh =
        file_hole_at(q->data, host, &hole_end) && hole_end - host >= n << q->cluster_bits;
}

static int take_new_space(struct qcow2 *q, const struct qcow2_slice *slice, uint64_t len,
                          struct qcow2_alloc *alloc)
{
    uint64_t off = alloc->start;
    uint64_t cluster_off = align_down(off, q->cluster_size);
    uint64_t clusters = (off + len - cluster_off + q->cluster_size - 1) >> q->cluster_bits;
    unsigned i = qcow2_slice_index(q, off);
    uint64_t n = count_homeless(q, slice, i, clusters);
    uint64_t cluster;
    uint64_t end;

    if (qcow2_has_data_file(q)) {
        place_in_data_file(q, n, alloc);
    } else {
        int r = qcow2_take_clusters(q, n, &cluster, &alloc->n, &alloc->fresh);

        if (r < 0)
            return r;
        alloc->host = cluster << q->cluster_bits;
    }

    /*
     * A cluster that holds something moves as a whole. Of one that holds nothing, only the units
     * that are written have to be filled.
     */
    end = cluster_off + (alloc->n << q->cluster_bits);
    alloc->start = has_data(q, slice, i) ? cluster_off : align_down(off, qcow2_unit_size(q));
    alloc->end = end;
    if (!has_data(q, slice, i + (unsigned)alloc->n - 1))
        alloc->end = min_u64(end, align_up(off + len, qcow2_unit_size(q)));
    return 0;
}

static int find_space(struct qcow2 *q, const struct qcow2_slice *slice, uint64_t len,
                      struct qcow2_alloc *alloc)
{
    uint64_t off = alloc->start;
    uint64_t unit = qcow2_unit_size(q);
    struct qcow2_extent extent;
    int r = qcow2_extent_decode_run(q, slice, off, len, &extent);

    if (r < 0)
        return r;
    if (!extent.copied)
        return take_new_space(q, slice, len, alloc);
    if (extent.kind == QCOW2_NORMAL) /* to be written in place */
        return 0;
    alloc->reuse = true;
    alloc->start = align_down(off, unit);
    alloc->end = align_up(off + extent.len, unit);
    alloc->host = align_down(extent.host, q->cluster_size);
    alloc->n = (align_up(alloc->end, q->cluster_size) - align_down(off, q->cluster_size)) >>
               q->cluster_bits;
    return 0;
}

int qcow2_alloc_begin(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_alloc *ret_alloc)
{
    struct qcow2_slice *slice;
    int r;

    *ret_alloc = (struct qcow2_alloc){.start = off};
    co_mutex_lock(&q->lock);
    r = qcow2_own_slice(q, off, &slice);
    if (r == 0) {
        r = find_space(q, slice, len, ret_alloc);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

/*
 * May the L2 entry of cluster `n` be durable before its data is? Yes, if the cluster reads as zero
 * both now and in its new space, which was never used, or not since the barrier before the first
 * change. The file has to be long enough too: else a power cut could leave an entry that points
 * past its end.
 */
static bool data_may_follow(const struct qcow2 *q, const struct qcow2_alloc *alloc, uint64_t n,
                            const struct qcow2_entry *old, uint64_t cluster_off)
{
    bool below = q->block.backing && cluster_off < q->block.backing->len;
    uint64_t end = alloc->host + ((n + 1) << q->cluster_bits);

    return alloc->fresh && !old->has_space && !below && !qcow2_has_data_file(q) &&
           end <= q->durable_len;
}

static void show_cluster(struct qcow2 *q, struct qcow2_slice *slice,
                         const struct qcow2_alloc *alloc, uint64_t n)
{
    uint64_t cluster_off = align_down(alloc->start, q->cluster_size) + (n << q->cluster_bits);
    unsigned i = qcow2_slice_index(q, cluster_off);
    struct qcow2_entry entry = qcow2_entry_get(q, slice, i);

    if (!data_may_follow(q, alloc, n, &entry, cluster_off))
        q->data_first = true;
    if (!alloc->reuse)
        qcow2_free_entry(q, cluster_off, &entry, false);
    if (qcow2_has_subclusters(q)) {
        uint64_t mask = qcow2_subcluster_mask(q, cluster_off, alloc->start, alloc->end);

        entry.bitmap = (entry.bitmap | mask) & ~(mask << 32);
    }
    qcow2_entry_set(q, slice, i, (alloc->host + (n << q->cluster_bits)) | QCOW2_COPIED,
                    entry.bitmap);
}

int qcow2_alloc_finish(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = qcow2_own_slice(q, alloc->start, &slice);
    if (r == 0) {
        for (uint64_t n = 0; n < alloc->n; n++)
            show_cluster(q, slice, alloc, n);
        qcow2_partial_write(q, alloc->start, alloc->end - alloc->start);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

/* A new L2 table is made first: later, it would lie between clusters that data is packed into. */
int qcow2_alloc_packed_begin(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_host)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = qcow2_own_slice(q, off, &slice);
    if (r == 0) {
        qcow2_slice_put(q, slice);
        r = qcow2_take_bytes(q, len, ret_host);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

int qcow2_alloc_packed_finish(struct qcow2 *q, uint64_t off, uint64_t host, uint64_t len)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = qcow2_own_slice(q, off, &slice);
    if (r == 0) {
        unsigned i = qcow2_slice_index(q, off);
        struct qcow2_entry old = qcow2_entry_get(q, slice, i);

        qcow2_free_entry(q, off, &old, false);
        qcow2_entry_set(q, slice, i, qcow2_packed_entry(q, host, len), 0);
        q->data_first = true;
        qcow2_partial_write(q, off, q->cluster_size);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

void qcow2_alloc_packed_abort(struct qcow2 *q, uint64_t host, uint64_t len)
{
    co_mutex_lock(&q->lock);
    qcow2_untake_bytes(q, host, len);
    co_mutex_unlock(&q->lock);
}

void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    if (alloc->reuse || alloc->n == 0 || qcow2_has_data_file(q))
        return;
    co_mutex_lock(&q->lock);
    qcow2_untake_clusters(q, qcow2_cluster_of(q, alloc->host), alloc->n);
    co_mutex_unlock(&q->lock);
}
