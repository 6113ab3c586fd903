/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/refcount.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/meta/space.h"
#include "block/qcow2/qcow2.h"

/* ---- looking up ------------------------------------------------------------------------------ */

int qcow2_refcount_find_in(struct qcow2 *q, uint64_t host, uint64_t cluster,
                           struct qcow2_refcount *ret_count)
{
    uint64_t in_block = cluster & ((1ull << q->refblock_bits) - 1);
    unsigned per_slice_bits = qcow2_slice_refcount_bits(q);

    ret_count->n = 1u << per_slice_bits;
    ret_count->i = (unsigned)(in_block & (ret_count->n - 1));
    return qcow2_slice_get(q, QCOW2_REFBLOCK,
                           host + ((in_block >> per_slice_bits) << q->slice_bits),
                           &ret_count->slice);
}

int qcow2_refcount_find(struct qcow2 *q, uint64_t cluster, struct qcow2_refcount *ret_count)
{
    uint64_t block = cluster >> q->refblock_bits;
    uint64_t host;

    if (block >= q->reftable.n)
        return -ENOENT;
    host = q->reftable.entries[block] & QCOW2_OFF_MASK;
    return host ? qcow2_refcount_find_in(q, host, cluster, ret_count) : -ENOENT;
}

/* The most slices of refcounts that are read to find the last cluster in use. */
#define END_SLICES_MAX 1024u

/* The index of the last refcount up to count->i that is not zero; -1 if there is none. */
static int last_counted(const struct qcow2 *q, const struct qcow2_refcount *count)
{
    int i = (int)count->i;

    while (i >= 0 && qcow2_refblock_get(q->refcount_order, count->slice->data, (size_t)i) == 0)
        i--;
    return i;
}

int qcow2_refcount_end(struct qcow2 *q, uint64_t *ret_cluster)
{
    uint64_t covered = (uint64_t)q->reftable.n << q->refblock_bits;
    uint64_t end = min_u64(qcow2_cluster_of(q, q->file_end), covered);
    unsigned slices = 0;

    while (end > 0) {
        uint64_t block = (end - 1) >> q->refblock_bits;
        struct qcow2_refcount count;
        int last;
        int r;

        if ((q->reftable.entries[block] & QCOW2_OFF_MASK) == 0) {
            end = block << q->refblock_bits;
            continue;
        }
        r = ++slices > END_SLICES_MAX ? -E2BIG : qcow2_refcount_find(q, end - 1, &count);
        if (r < 0)
            return r;
        last = last_counted(q, &count);
        end -= (uint64_t)((int)count.i - last);
        qcow2_slice_put(q, count.slice);
        if (last >= 0)
            break;
    }
    *ret_cluster = end;
    return 0;
}

/* ---- up and down ----------------------------------------------------------------------------- */

int qcow2_refcount_up(struct qcow2 *q, uint64_t cluster)
{
    struct qcow2_refcount count;
    uint64_t value;
    int r = qcow2_refcount_find(q, cluster, &count);

    if (r < 0)
        return r;
    value = qcow2_refcount_get(q, &count);
    if (value < qcow2_refcount_max(q->refcount_order))
        qcow2_refcount_set(q, &count, value + 1);
    else
        r = -ERANGE;
    qcow2_slice_put(q, count.slice);
    return r;
}

/* Count a cluster down. A refcount that cannot be right marks the image corrupt. */
static int refcount_down(struct qcow2 *q, uint64_t cluster)
{
    struct qcow2_refcount count;
    uint64_t value;
    int r = qcow2_refcount_find(q, cluster, &count);

    if (r == -ENOENT)
        return qcow2_mark_corrupt(q, "a cluster in use is not counted", cluster << q->cluster_bits);
    if (r < 0)
        return r;
    value = qcow2_refcount_get(q, &count);
    if (value == 1 && qcow2_is_metadata(q, cluster << q->cluster_bits, q->cluster_size))
        r = qcow2_mark_corrupt(q, "metadata would be counted as free", cluster << q->cluster_bits);
    else if (value == 0)
        r = qcow2_mark_corrupt(q, "a cluster in use is counted as free",
                               cluster << q->cluster_bits);
    else
        qcow2_refcount_set(q, &count, value - 1);
    qcow2_slice_put(q, count.slice);
    if (r < 0)
        return r;
    if (value == 1)
        qcow2_space_freed(q, cluster);
    return 0;
}

void qcow2_untake_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
    /* Clusters that cannot be counted down are lost space, which the checker finds. */
    for (uint64_t i = 0; i < n; i++)
        if (refcount_down(q, cluster + i) < 0)
            return;
}

void qcow2_untake_bytes(struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t first = qcow2_cluster_of(q, host);

    q->packed_end = 0; /* it may point into a cluster that becomes free */
    qcow2_untake_clusters(q, first, qcow2_cluster_of(q, host + len - 1) - first + 1);
}

void qcow2_stock_return(struct qcow2 *q)
{
    uint64_t first = q->stock.first;
    uint64_t n = q->stock.n;

    q->stock = (struct qcow2_stock){.taken = q->stock.taken};
    if (q->corrupt)
        return;
    qcow2_untake_clusters(q, first, n);
    qcow2_space_untaken(q, first, n);
}

/* ---- freed clusters -------------------------------------------------------------------------- */

void qcow2_freed_add(struct qcow2_freed *freed, uint64_t cluster, uint64_t n, bool punch)
{
    if (freed->n > 0) {
        struct qcow2_run *last = &freed->runs[freed->n - 1];

        if (last->cluster + last->n == cluster && last->punch == punch) {
            last->n += n;
            return;
        }
    }
    if (freed->n == freed->max) {
        size_t max = freed->max ? freed->max * 2 : 16;
        struct qcow2_run *runs = realloc(freed->runs, max * sizeof(*runs));

        if (!runs)
            return; /* lost space, which the checker finds */
        freed->runs = runs;
        freed->max = max;
    }
    freed->runs[freed->n++] = (struct qcow2_run){cluster, n, punch};
}

void qcow2_freed_move(struct qcow2_freed *to, struct qcow2_freed *from)
{
    for (size_t i = 0; i < from->n; i++)
        qcow2_freed_add(to, from->runs[i].cluster, from->runs[i].n, from->runs[i].punch);
    free(from->runs);
    *from = (struct qcow2_freed){0};
}

/*
 * Count down one cluster that lost a reference. If that was the last one, and the space goes back
 * to the host, add the cluster to `to_punch` instead: it stays counted until its hole is punched,
 * so that it is not taken meanwhile.
 */
static int count_down_freed(struct qcow2 *q, uint64_t cluster, bool punch,
                            struct qcow2_freed *to_punch)
{
    struct qcow2_refcount count;
    bool last;
    int r;

    if (qcow2_may_write_table(q, cluster << q->cluster_bits))
        return qcow2_mark_corrupt(q, "metadata was used as data", cluster << q->cluster_bits);
    if (punch) {
        r = qcow2_refcount_find(q, cluster, &count);
        if (r < 0)
            return r;
        last = qcow2_refcount_get(q, &count) == 1;
        qcow2_slice_put(q, count.slice);
        if (last && !qcow2_is_metadata(q, cluster << q->cluster_bits, q->cluster_size)) {
            qcow2_freed_add(to_punch, cluster, 1, false);
            return 0;
        }
    }
    return refcount_down(q, cluster);
}

/* Counting down a cluster takes about as long as copying so many bytes (co_give_way). */
#define COUNT_DOWN_COST 256u

/* Count down until the first failure: the rest is lost space, which the checker finds. */
static void count_down_all(struct qcow2 *q, const struct qcow2_freed *freed,
                           struct qcow2_freed *to_punch)
{
    co_mutex_lock(&q->lock);
    for (size_t i = 0; i < freed->n; i++) {
        const struct qcow2_run *run = &freed->runs[i];

        for (uint64_t n = 0; n < run->n; n++) {
            co_give_way(COUNT_DOWN_COST);
            if (count_down_freed(q, run->cluster + n, run->punch, to_punch) < 0)
                goto unlock;
        }
    }
unlock:
    co_mutex_unlock(&q->lock);
}

static int compare_runs(const void *a, const void *b)
{
    const struct qcow2_run *x = a;
    const struct qcow2_run *y = b;

    return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

/* Give space back to the host. Where that fails, it stays with the file and may be taken again. */
static void punch_all(struct qcow2 *q, const struct qcow2_freed *freed)
{
    for (size_t i = 0; i < freed->n; i++)
        if (qcow2_data_zero_fast(q, freed->runs[i].cluster << q->cluster_bits,
                                 freed->runs[i].n << q->cluster_bits, true) < 0)
            return;
}

/* Join adjacent runs, so that a hole of many clusters is punched at once. */
static void merge_runs(struct qcow2_freed *freed)
{
    size_t n = 0;

    if (freed->n == 0)
        return;
    qsort(freed->runs, freed->n, sizeof(*freed->runs), compare_runs);
    for (size_t i = 1; i < freed->n; i++) {
        struct qcow2_run *last = &freed->runs[n];

        if (last->cluster + last->n == freed->runs[i].cluster)
            last->n += freed->runs[i].n;
        else
            freed->runs[++n] = freed->runs[i];
    }
    freed->n = n + 1;
}

void qcow2_release(struct qcow2 *q)
{
    struct qcow2_freed freed = q->unreferenced;
    struct qcow2_freed to_punch = {0};

    if (freed.n == 0 || q->corrupt)
        return;
    q->unreferenced = (struct qcow2_freed){0};
    count_down_all(q, &freed, &to_punch);
    if (to_punch.n > 0) {
        merge_runs(&to_punch);
        punch_all(q, &to_punch);
        count_down_all(q, &to_punch, &freed); /* adds nothing: no run in `to_punch` has `punch` */
    }
    free(to_punch.runs);
    free(freed.runs);
}
