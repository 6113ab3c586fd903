/*
 * Which host clusters are in use. Counts go up as soon as a cluster is taken, in memory; they go
 * down only after it is durable that nothing refers to the cluster (meta/flush.c).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/format/counter.h"
#include "block/qcow2/qcow2.h"

/* ---- counts ---------------------------------------------------------------------------------- */

/* A refcount in its slice. */
struct count {
    struct qcow2_slice *slice;
    unsigned i;
    unsigned n; /* counts in the slice */
};

static uint64_t count_get(const struct qcow2 *q, const struct count *count)
{
    return qcow2_counter_get(q->refcount_order, count->slice->data, count->i);
}

static void count_set(struct qcow2 *q, const struct count *count, uint64_t value)
{
    qcow2_counter_set(q->refcount_order, count->slice->data, count->i, value);
    qcow2_slice_dirty(q, count->slice);
}

/* Looking at a count takes about as long as copying so many bytes (co_turn). */
#define LOOK_COST 8u

static uint64_t counts_in_slice(const struct qcow2 *q)
{
    return 1ull << (q->slice_bits + 3 - q->refcount_order);
}

/* Get the count of a cluster in the refcount block at `host`; to be put with qcow2_slice_put. */
static int count_find_in(struct qcow2 *q, uint64_t host, uint64_t cluster, struct count *ret_count)
{
    uint64_t in_block = cluster & ((1ull << q->refblock_bits) - 1);
    unsigned per_slice_bits = q->slice_bits + 3 - q->refcount_order;

    ret_count->n = 1u << per_slice_bits;
    ret_count->i = (unsigned)(in_block & (ret_count->n - 1));
    return qcow2_slice_get(q, QCOW2_REFBLOCK,
                           host + ((in_block >> per_slice_bits) << q->slice_bits),
                           &ret_count->slice);
}

/* The same for a cluster whose refcount block is in the table. */
static int count_find(struct qcow2 *q, uint64_t cluster, struct count *ret_count)
{
    uint64_t block = cluster >> q->refblock_bits;
    uint64_t host;

    if (block >= q->reftable.n)
        return -ENOENT;
    host = q->reftable.entries[block] & QCOW2_OFF_MASK;
    return host ? count_find_in(q, host, cluster, ret_count) : -ENOENT;
}

/* Slices of counts that are read to find where the file is in use: all that a crash leaves. */
#define END_SLICES_MAX 1024u

/* The last one up to count->i that is not zero; -1: none. */
static int last_counted(const struct qcow2 *q, const struct count *count)
{
    int i = (int)count->i;

    while (i >= 0 && qcow2_counter_get(q->refcount_order, count->slice->data, (size_t)i) == 0)
        i--;
    return i;
}

int qcow2_counted_end(struct qcow2 *q, uint64_t *ret_cluster)
{
    uint64_t covered = (uint64_t)q->reftable.n << q->refblock_bits;
    uint64_t end = min_u64(qcow2_cluster_of(q, q->file_end), covered);
    unsigned slices = 0;

    while (end > 0) {
        uint64_t block = (end - 1) >> q->refblock_bits;
        struct count count;
        int last;
        int r;

        if ((q->reftable.entries[block] & QCOW2_OFF_MASK) == 0) {
            end = block << q->refblock_bits;
            continue;
        }
        r = ++slices > END_SLICES_MAX ? -E2BIG : count_find(q, end - 1, &count);
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

/* ---- new refcount blocks and tables ---------------------------------------------------------- */

static void extend_file(struct qcow2 *q, uint64_t end)
{
    q->file_end = max_u64(q->file_end, end);
    qcow2_file_grow(q, end);
}

/*
 * Make a cluster read as zero in the file, and the file long enough to hold it, before it becomes a
 * table: entries nobody has written are read from there.
 */
static int zero_new_table(struct qcow2 *q, uint64_t host, uint64_t len, bool fresh)
{
    uint64_t last = qcow2_slice_size(q);
    int r = 0;

    if (!fresh)
        r = qcow2_meta_zero(q, host, len);
    return r < 0 ? r : qcow2_meta_write(q, host + len - last, file_zeroes, last);
}

/*
 * A part of the file that no refcount block covers yet is free, all of it. Its block goes into its
 * first cluster and counts itself, so that making it needs no other allocation.
 */
static int new_refblock(struct qcow2 *q, uint32_t block)
{
    uint64_t cluster = (uint64_t)block << q->refblock_bits;
    uint64_t host = cluster << q->cluster_bits;
    struct count count;
    int r;

    if (qcow2_is_metadata(q, host, q->cluster_size))
        return qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    r = zero_new_table(q, host, q->cluster_size, host >= q->file_end);
    if (r < 0)
        return r;
    r = qcow2_set_add(&q->metadata, cluster);
    if (r < 0)
        return r;
    extend_file(q, host + q->cluster_size);
    r = count_find_in(q, host, cluster, &count);
    if (r < 0) {
        qcow2_set_remove(&q->metadata, cluster);
        return r;
    }
    /*
     * In one step: a flush that wrote the entry without the count would leave the block uncounted.
     */
    qcow2_table_set(&q->reftable, block, host);
    count_set(q, &count, 1);
    qcow2_slice_put(q, count.slice);
    return 0;
}

void qcow2_fill_counts(unsigned refcount_order, uint8_t *data, size_t len, uint64_t n)
{
    memset(data, 0, len);
    for (uint64_t i = 0; i < n; i++)
        qcow2_counter_set(refcount_order, data, i, 1);
}

/* Where a larger refcount table goes: past all that the present one covers. */
struct bigger_reftable {
    uint64_t cluster; /* first: refcount blocks, then the table */
    uint32_t nblocks;
    uint32_t table_clusters;
    struct qcow2_table table;
};

/*
 * At the first cluster that the present table cannot count:
 *
 *     | block | ... | block |  table ...  |
 *
 * with as many blocks as it takes to count themselves and the table.
 */
static int plan_reftable(const struct qcow2 *q, struct bigger_reftable *plan)
{
    uint64_t per_cluster = q->cluster_size / sizeof(uint64_t);
    uint64_t per_block = 1ull << q->refblock_bits;
    uint64_t entries = q->reftable.n + max_u64(q->reftable.n / 2, per_cluster);
    uint64_t blocks;

    plan->table_clusters = (uint32_t)div_round_up(entries, per_cluster);
    blocks = 1;
    while (blocks * per_block < blocks + plan->table_clusters)
        blocks++;
    plan->nblocks = (uint32_t)blocks;
    plan->cluster = (uint64_t)q->reftable.n << q->refblock_bits;
    plan->table.n = (uint32_t)(plan->table_clusters * per_cluster);
    plan->table.host = (plan->cluster + blocks) << q->cluster_bits;
    if (plan->table.n * sizeof(uint64_t) > QCOW2_REFTABLE_BYTES_MAX ||
        q->reftable.n + blocks > plan->table.n || plan->table.host >= QCOW2_HOST_MAX)
        return -EFBIG;
    return 0;
}

static int write_refblocks(struct qcow2 *q, const struct bigger_reftable *plan)
{
    uint64_t left = plan->nblocks + plan->table_clusters;
    uint8_t *data = malloc(q->cluster_size);
    int r = 0;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        uint64_t n = min_u64(left, 1ull << q->refblock_bits);

        qcow2_fill_counts(q->refcount_order, data, q->cluster_size, n);
        left -= n;
        r = qcow2_meta_write(q, (plan->cluster + i) << q->cluster_bits, data, q->cluster_size);
    }
    free(data);
    return r;
}

static int write_reftable(struct qcow2 *q, const struct bigger_reftable *plan)
{
    size_t len = plan->table.n * sizeof(uint64_t);
    uint8_t *data = malloc(len);
    int r;

    if (!data)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->table.n; i++)
        store_be64(data + i * sizeof(uint64_t), plan->table.entries[i]);
    r = qcow2_meta_write(q, plan->table.host, data, len);
    free(data);
    return r;
}

static int load_bigger(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table *table = &plan->table;
    int r = 0;

    table->entries = calloc(table->n, sizeof(uint64_t));
    table->dirty = calloc(div_round_up(table->n, 64ull * QCOW2_TABLE_PART), sizeof(uint64_t));
    if (!table->entries || !table->dirty)
        return -ENOMEM;
    memcpy(table->entries, q->reftable.entries, q->reftable.n * sizeof(uint64_t));
    for (uint32_t i = 0; i < plan->nblocks && r == 0; i++) {
        table->entries[q->reftable.n + i] = (plan->cluster + i) << q->cluster_bits;
        r = qcow2_set_add(&q->metadata, plan->cluster + i);
    }
    return r;
}

/*
 * The new table is complete and durable before the header points at it. Old entries of the present
 * table that are not written yet stay behind in memory only: blocks they point at would be lost in
 * a crash, so the table is brought up to date with everything else first.
 */
static int switch_reftable(struct qcow2 *q, struct bigger_reftable *plan)
{
    struct qcow2_table old = q->reftable;
    int r = qcow2_write_back(q);

    if (r == 0)
        r = write_refblocks(q, plan);
    if (r == 0)
        r = write_reftable(q, plan);
    if (r == 0)
        r = qcow2_barrier(q);
    if (r == 0)
        r = qcow2_write_reftable_pointer(q, plan->table.host, plan->table_clusters);
    if (r < 0)
        return r;
    q->reftable = plan->table;
    plan->table = (struct qcow2_table){0};
    extend_file(q, q->reftable.host + q->reftable.n * sizeof(uint64_t));
    qcow2_freed_add(&q->freed, qcow2_cluster_of(q, old.host),
                    qcow2_table_len(q, &old) >> q->cluster_bits, false);
    qcow2_table_done(&old);
    return 0;
}

static int grow_reftable(struct qcow2 *q)
{
    struct bigger_reftable plan = {0};
    int r = plan_reftable(q, &plan);
    uint64_t host = plan.cluster << q->cluster_bits;

    if (r == 0 &&
        qcow2_is_metadata(q, host, plan.table.host - host + qcow2_table_len(q, &plan.table)))
        r = qcow2_mark_corrupt(q, "metadata lies where no refcount block counts it", host);
    if (r == 0)
        r = load_bigger(q, &plan);
    if (r == 0)
        r = switch_reftable(q, &plan);
    for (uint32_t i = 0; i < plan.nblocks && r < 0; i++)
        qcow2_set_remove(&q->metadata, plan.cluster + i);
    qcow2_table_done(&plan.table);
    return r;
}

/* Make sure that the cluster's refcount exists. */
static int ensure_counted(struct qcow2 *q, uint64_t cluster)
{
    uint64_t block = cluster >> q->refblock_bits;

    if (cluster >= QCOW2_HOST_MAX >> q->cluster_bits)
        return -EFBIG;
    while (block >= q->reftable.n) {
        int r = grow_reftable(q);

        if (r < 0)
            return r;
    }
    if ((q->reftable.entries[block] & QCOW2_OFF_MASK) == 0)
        return new_refblock(q, (uint32_t)block);
    return 0;
}

/* ---- allocation ------------------------------------------------------------------------------ */

/*
 * Take the first run of free clusters from `cluster` on, within one slice. *ret_n is 0, and
 * *ret_next where to go on, if the slice has none. A run that begins before the end of the file
 * ends there: all of it reads as zero, or nobody knows.
 */
static int alloc_in_slice(struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *ret_cluster,
                          uint64_t *ret_n, uint64_t *ret_next)
{
    struct count count;
    uint64_t base;
    uint64_t n = 0;
    int r = count_find(q, cluster, &count);

    if (r < 0)
        return r;
    base = cluster - count.i;
    while (count.i < count.n && count_get(q, &count) != 0)
        count.i++;
    *ret_cluster = base + count.i;
    if (*ret_cluster < qcow2_cluster_of(q, q->file_end))
        want = min_u64(want, qcow2_cluster_of(q, q->file_end) - *ret_cluster);
    for (; n < want && count.i < count.n && count_get(q, &count) == 0; count.i++, n++) {
        uint64_t host = (base + count.i) << q->cluster_bits;

        if (qcow2_is_metadata(q, host, q->cluster_size)) {
            qcow2_slice_put(q, count.slice);
            return qcow2_mark_corrupt(q, "metadata is counted as free", host);
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        count.i = (unsigned)(*ret_cluster + i - base);
        count_set(q, &count, 1);
    }
    *ret_n = n;
    *ret_next = n > 0 ? *ret_cluster + n : base + count.n;
    qcow2_slice_put(q, count.slice);
    return 0;
}

/* So much is counted ahead: what a crash may leave as leaked clusters. */
#define COUNT_AHEAD_BYTES (4ull << 20)

/* After so many flushes in a row. */
#define COUNT_AHEAD_ROUNDS 4u

/* How many clusters to count besides those that are wanted. */
static uint64_t count_ahead(const struct qcow2 *q)
{
    return q->counted.short_rounds < COUNT_AHEAD_ROUNDS || q->lazy
               ? 0
               : COUNT_AHEAD_BYTES >> q->cluster_bits;
}

/*
 * Count the first run of free clusters: `want` of them, or fewer, or some ahead as well. The file
 * is made long enough for all of them: that becomes durable with their counts.
 */
static int count_run(struct qcow2 *q, uint64_t want, struct qcow2_counted *ret_run)
{
    uint64_t n = 0;

    while (n == 0) {
        uint64_t from = 0;
        uint64_t next = 0;
        int r = co_turn(LOOK_COST * counts_in_slice(q)); /* there may be very many, and no room */

        if (r == 0)
            r = qcow2_space_find(q, &from);
        if (r == 0)
            r = ensure_counted(q, from);
        if (r == 0)
            r = alloc_in_slice(q, from, want + count_ahead(q), &ret_run->first, &n, &next);
        if (r < 0)
            return r;
        qcow2_space_taken(q, from, n, next);
    }
    ret_run->n = n;
    qcow2_file_grow(q, (ret_run->first + n) << q->cluster_bits);
    return 0;
}

int qcow2_alloc_clusters(struct qcow2 *q, uint64_t want, uint64_t *ret_cluster, uint64_t *ret_n,
                         bool *ret_fresh)
{
    struct qcow2_counted *counted = &q->counted;
    uint64_t host;
    int r;

    if (q->corrupt)
        return -EIO;
    r = counted->n == 0 ? count_run(q, want, counted) : 0;
    if (r < 0)
        return r;
    *ret_cluster = counted->first;
    *ret_n = min_u64(want, counted->n);
    counted->first += *ret_n;
    counted->n -= *ret_n;
    counted->taken += *ret_n;
    host = *ret_cluster << q->cluster_bits;
    *ret_fresh = host >= q->file_end;
    extend_file(q, host + (*ret_n << q->cluster_bits));
    return 0;
}

void qcow2_uncount_ahead(struct qcow2 *q)
{
    uint64_t first = q->counted.first;
    uint64_t n = q->counted.n;

    q->counted = (struct qcow2_counted){.taken = q->counted.taken};
    if (q->corrupt)
        return;
    qcow2_unalloc_clusters(q, first, n);
    qcow2_space_untaken(q, first, n);
}

static int count_up(struct qcow2 *q, uint64_t cluster)
{
    struct count count;
    uint64_t value;
    int r = count_find(q, cluster, &count);

    if (r < 0)
        return r;
    value = count_get(q, &count);
    if (value < qcow2_counter_max(q->refcount_order))
        count_set(q, &count, value + 1);
    else
        r = -ERANGE;
    qcow2_slice_put(q, count.slice);
    return r;
}

/* Lower a count by one. */
static int count_down(struct qcow2 *q, uint64_t cluster)
{
    struct count count;
    uint64_t value;
    int r = count_find(q, cluster, &count);

    if (r == -ENOENT)
        return qcow2_mark_corrupt(q, "a cluster in use is not counted", cluster << q->cluster_bits);
    if (r < 0)
        return r;
    value = count_get(q, &count);
    if (value == 1 && qcow2_is_metadata(q, cluster << q->cluster_bits, q->cluster_size))
        r = qcow2_mark_corrupt(q, "metadata would be counted as free", cluster << q->cluster_bits);
    else if (value == 0)
        r = qcow2_mark_corrupt(q, "a cluster in use is counted as free",
                               cluster << q->cluster_bits);
    else
        count_set(q, &count, value - 1);
    qcow2_slice_put(q, count.slice);
    if (r < 0)
        return r;
    if (value == 1)
        qcow2_space_freed(q, cluster);
    return 0;
}

void qcow2_unalloc_clusters(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
    /* What cannot be given back is lost space, which the image checker finds. */
    for (uint64_t i = 0; i < n; i++)
        if (count_down(q, cluster + i) < 0)
            return;
}

/* ---- space for compressed data --------------------------------------------------------------- */

/* Behind what was packed last, in a cluster that can be counted once more. 0: nowhere. */
static uint64_t packing_place(struct qcow2 *q)
{
    uint64_t host = q->packed_end;

    q->packed_end = 0;
    if (host == 0)
        return 0;
    return count_up(q, qcow2_cluster_of(q, host)) == 0 ? host : 0;
}

/* The cluster behind `*host` is to be its continuation; if another one is free, begin there. */
static int continue_packing(struct qcow2 *q, uint64_t *host)
{
    uint64_t cluster;
    uint64_t n;
    bool fresh;
    int r = qcow2_alloc_clusters(q, 1, &cluster, &n, &fresh);

    if (*host && (r < 0 || cluster != qcow2_cluster_of(q, *host) + 1)) {
        qcow2_unalloc_clusters(q, qcow2_cluster_of(q, *host), 1);
        *host = 0;
    }
    if (r == 0 && *host == 0)
        *host = cluster << q->cluster_bits;
    return r;
}

int qcow2_alloc_bytes(struct qcow2 *q, uint64_t len, uint64_t *ret_host)
{
    uint64_t host = packing_place(q);
    int r = 0;

    if (!host || (host & (q->cluster_size - 1)) + len > q->cluster_size)
        r = continue_packing(q, &host);
    if (r == 0 && host + len > qcow2_packed_max(q)) {
        qcow2_unalloc_bytes(q, host, len);
        r = -EFBIG;
    }
    if (r < 0)
        return r;
    if (!is_aligned(host + len, q->cluster_size))
        q->packed_end = host + len;
    *ret_host = host;
    return 0;
}

void qcow2_unalloc_bytes(struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t first = qcow2_cluster_of(q, host);

    q->packed_end = 0; /* it may point into a cluster that becomes free */
    qcow2_unalloc_clusters(q, first, qcow2_cluster_of(q, host + len - 1) - first + 1);
}

/* ---- release --------------------------------------------------------------------------------- */

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
            return; /* lost space, which the image checker finds */
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
 * Count down one cluster that lost a reference. If it was the last one, and the space goes back to
 * the host, the cluster stays counted for now, so that nobody takes it while its hole is punched.
 */
static int count_down_freed(struct qcow2 *q, uint64_t cluster, bool punch,
                            struct qcow2_freed *to_punch)
{
    struct count count;
    bool last;
    int r;

    if (qcow2_may_write_table(q, cluster << q->cluster_bits))
        return qcow2_mark_corrupt(q, "metadata was used as data", cluster << q->cluster_bits);
    if (punch) {
        r = count_find(q, cluster, &count);
        if (r < 0)
            return r;
        last = count_get(q, &count) == 1;
        qcow2_slice_put(q, count.slice);
        if (last && !qcow2_is_metadata(q, cluster << q->cluster_bits, q->cluster_size)) {
            qcow2_freed_add(to_punch, cluster, 1, false);
            return 0;
        }
    }
    return count_down(q, cluster);
}

/* Counting down a cluster takes about as long as copying so many bytes (co_give_way). */
#define COUNT_DOWN_COST 256u

/* Stops at the first failure: what remains is lost space, which the image checker finds. */
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

/* A hint: where it fails the space stays with the file, free for reuse. */
static void punch_all(struct qcow2 *q, const struct qcow2_freed *freed)
{
    for (size_t i = 0; i < freed->n; i++)
        if (qcow2_data_zero_fast(q, freed->runs[i].cluster << q->cluster_bits,
                                 freed->runs[i].n << q->cluster_bits, true) < 0)
            return;
}

/* Neighbours become one run: a hole of many clusters is punched at once. */
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
        count_down_all(q, &to_punch, &freed); /* nothing is added: what was punched is not again */
    }
    free(to_punch.runs);
    free(freed.runs);
}
