/*
 * Changing what guest offsets map to: allocating writes, zeroes and discards.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/request/l2.h"

/* ---- L2 tables that may be changed ----------------------------------------------------------- */

/* Make a new L2 table's contents in the file: those of `old`, or zeroes. */
static int fill_l2(struct qcow2 *q, uint64_t host, uint64_t old, bool fresh)
{
    uint8_t *data;
    int r;

    if (old == 0) {
        uint64_t last = qcow2_slice_size(q);

        /* The file must be long enough to hold the table, or it could not be read again. */
        r = fresh ? 0 : qcow2_meta_zero(q, host, q->cluster_size);
        return r < 0 ? r : qcow2_meta_write(q, host + q->cluster_size - last, file_zeroes, last);
    }
    data = malloc(q->cluster_size);
    if (!data)
        return -ENOMEM;
    /* A table with more than one owner is never changed, so the file has all of it. */
    r = qcow2_meta_read(q, old, data, q->cluster_size);
    if (r == 0)
        r = qcow2_meta_write(q, host, data, q->cluster_size);
    free(data);
    return r;
}

/*
 * Give an L1 entry a table of its own: a new one, or a copy if a snapshot uses the present one too.
 * The entry is written back after the table's contents and count.
 */
static int own_l2(struct qcow2 *q, uint32_t index)
{
    uint64_t old = q->l1.entries[index] & QCOW2_OFF_MASK;
    uint64_t cluster;
    uint64_t n;
    bool fresh;
    int r = qcow2_alloc_clusters(q, 1, &cluster, &n, &fresh);

    if (r < 0)
        return r;
    r = fill_l2(q, cluster << q->cluster_bits, old, fresh);
    if (r == 0)
        r = qcow2_set_add(&q->metadata, cluster);
    if (r < 0) {
        qcow2_unalloc_clusters(q, cluster, 1);
        return r;
    }
    qcow2_table_set(&q->l1, index, (cluster << q->cluster_bits) | QCOW2_COPIED);
    if (old) {
        qcow2_set_remove(&q->metadata, qcow2_cluster_of(q, old));
        qcow2_freed_add(&q->freed, qcow2_cluster_of(q, old), 1, false);
    }
    return 0;
}

/* Get the slice of `off` in a table that only we use. With q->lock held. */
static int own_slice(struct qcow2 *q, uint64_t off, struct qcow2_slice **ret_slice)
{
    uint32_t index = qcow2_l1_index(q, off);
    uint64_t table;
    int r = qcow2_l2_table(q, off, &table);

    if (r == 0 && !(table && (q->l1.entries[index] & QCOW2_COPIED)))
        r = own_l2(q, index);
    if (r == 0)
        r = qcow2_l2_table(q, off, &table);
    return r < 0 ? r : qcow2_slice_get(q, QCOW2_L2, qcow2_slice_host(q, table, off), ret_slice);
}

/*
 * Remember that the guest no longer uses what an entry points at. Clusters of an external data file
 * are not counted.
 */
static void free_entry(struct qcow2 *q, uint64_t off, uint64_t entry, bool punch)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    if (q->data != q->block.file)
        return;
    if (entry & QCOW2_COMPRESSED) {
        uint64_t len;
        uint64_t first;
        uint64_t n;

        /* Compressed clusters share host clusters; each holds a reference to all it touches. */
        qcow2_packed_range(q, entry, &host, &len);
        first = qcow2_cluster_of(q, host);
        n = qcow2_cluster_of(q, host + len - 1) - first + 1;
        qcow2_freed_add(&q->freed, first, n, punch);
        qcow2_drop_inflated(q, off);
        /* Nothing is packed into a cluster that may be on its way out. */
        if (q->packed_end && qcow2_cluster_of(q, q->packed_end) - first < n)
            q->packed_end = 0;
    } else if (host) {
        qcow2_freed_add(&q->freed, qcow2_cluster_of(q, host), 1, punch);
    }
}

/* ---- allocating writes ----------------------------------------------------------------------- */

/* The cluster holds something, which moves with it when it gets new space. */
static bool has_data(const struct qcow2 *q, struct qcow2_entry entry)
{
    return (entry.entry & QCOW2_COMPRESSED) || qcow2_entry_has_space(q, entry.entry);
}

static bool has_own_space(const struct qcow2 *q, struct qcow2_entry entry)
{
    return qcow2_entry_has_space(q, entry.entry) && (entry.entry & QCOW2_COPIED);
}

/* Clusters from entry `i` on, at most `max`, that a write must find new space for. */
static unsigned count_homeless(const struct qcow2 *q, const struct qcow2_slice *slice, unsigned i,
                               uint64_t max)
{
    unsigned n = 0;

    while (n < max && i + n < qcow2_slice_entries(q) &&
           !has_own_space(q, qcow2_entry_get(q, slice, i + n)))
        n++;
    return n;
}

/* In an external data file every cluster's place is where it is on the disk. */
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

    if (q->data != q->block.file) {
        place_in_data_file(q, n, alloc);
    } else {
        int r = qcow2_alloc_clusters(q, n, &cluster, &alloc->n, &alloc->fresh);

        if (r < 0)
            return r;
        alloc->host = cluster << q->cluster_bits;
    }

    /*
     * What a cluster holds moves with it; of one that holds nothing only the units written count.
     */
    end = cluster_off + (alloc->n << q->cluster_bits);
    alloc->start = has_data(q, qcow2_entry_get(q, slice, i)) ? cluster_off
                                                             : align_down(off, qcow2_unit_size(q));
    alloc->end = end;
    if (!has_data(q, qcow2_entry_get(q, slice, i + (unsigned)alloc->n - 1)))
        alloc->end = min_u64(end, align_up(off + len, qcow2_unit_size(q)));
    return 0;
}

static int find_space(struct qcow2 *q, const struct qcow2_slice *slice, uint64_t len,
                      struct qcow2_alloc *alloc)
{
    uint64_t off = alloc->start;
    uint64_t unit = qcow2_unit_size(q);
    struct qcow2_extent extent;
    int r = qcow2_decode_run(q, slice, off, len, &extent);

    if (r < 0)
        return r;
    if (!extent.copied)
        return take_new_space(q, slice, len, alloc);
    if (extent.kind == QCOW2_NORMAL) /* nothing to be done: written in place */
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
    r = own_slice(q, off, &slice);
    if (r == 0) {
        r = find_space(q, slice, len, ret_alloc);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

/* The bits of the subclusters that [off, end) and the cluster at `cluster_off` have in common. */
static uint32_t subcluster_mask(const struct qcow2 *q, uint64_t cluster_off, uint64_t off,
                                uint64_t end)
{
    uint64_t unit = qcow2_unit_size(q);
    uint64_t first = off > cluster_off ? (off - cluster_off) / unit : 0;
    uint64_t last = min_u64(div_round_up(end - cluster_off, unit), QCOW2_SUBCLUSTERS);

    return (uint32_t)(((1ull << last) - 1) & ~((1ull << first) - 1));
}

/*
 * Does cluster `n` of `alloc` read the same before its data is there? It reads as zero now, and so
 * does its new space: that was never used, or not since the barrier before the first change. And
 * the file is long enough: else a power cut could leave an entry that points behind its end.
 */
static bool data_may_follow(const struct qcow2 *q, const struct qcow2_alloc *alloc, uint64_t n,
                            struct qcow2_entry old, uint64_t cluster_off)
{
    bool below = q->block.backing && cluster_off < q->block.backing->len;
    uint64_t end = alloc->host + ((n + 1) << q->cluster_bits);

    return alloc->fresh && !has_data(q, old) && !below && q->data == q->block.file &&
           end <= q->durable_len;
}

static void commit_cluster(struct qcow2 *q, struct qcow2_slice *slice,
                           const struct qcow2_alloc *alloc, uint64_t n)
{
    uint64_t cluster_off = align_down(alloc->start, q->cluster_size) + (n << q->cluster_bits);
    unsigned i = qcow2_slice_index(q, cluster_off);
    struct qcow2_entry entry = qcow2_entry_get(q, slice, i);

    if (!data_may_follow(q, alloc, n, entry, cluster_off))
        q->data_first = true;
    if (!alloc->reuse)
        free_entry(q, cluster_off, entry.entry, false);
    entry.entry = (alloc->host + (n << q->cluster_bits)) | QCOW2_COPIED;
    if (qcow2_has_subclusters(q)) {
        uint64_t mask = subcluster_mask(q, cluster_off, alloc->start, alloc->end);

        entry.bitmap = (entry.bitmap | mask) & ~(mask << 32);
    }
    qcow2_entry_set(q, slice, i, entry);
}

int qcow2_alloc_commit(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = own_slice(q, alloc->start, &slice);
    if (r == 0) {
        for (uint64_t n = 0; n < alloc->n; n++)
            commit_cluster(q, slice, alloc, n);
        qcow2_partial_write(q, alloc->start, alloc->end - alloc->start);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

/* The table first: it would break the row of clusters that data is packed into. */
int qcow2_begin_packed(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_host)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = own_slice(q, off, &slice);
    if (r == 0) {
        qcow2_slice_put(q, slice);
        r = qcow2_alloc_bytes(q, len, ret_host);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

int qcow2_commit_packed(struct qcow2 *q, uint64_t off, uint64_t host, uint64_t len)
{
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = own_slice(q, off, &slice);
    if (r == 0) {
        unsigned i = qcow2_slice_index(q, off);

        free_entry(q, off, qcow2_entry_get(q, slice, i).entry, false);
        qcow2_entry_set(q, slice, i, (struct qcow2_entry){qcow2_packed_entry(q, host, len), 0});
        q->data_first = true;
        qcow2_partial_write(q, off, q->cluster_size);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

void qcow2_abort_packed(struct qcow2 *q, uint64_t host, uint64_t len)
{
    co_mutex_lock(&q->lock);
    qcow2_unalloc_bytes(q, host, len);
    co_mutex_unlock(&q->lock);
}

void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    if (alloc->reuse || alloc->n == 0 || q->data != q->block.file)
        return;
    co_mutex_lock(&q->lock);
    qcow2_unalloc_clusters(q, qcow2_cluster_of(q, alloc->host), alloc->n);
    co_mutex_unlock(&q->lock);
}

/* ---- zeroes and discards --------------------------------------------------------------------- */

#define ALL_SUBCLUSTERS 0xffffffffull

/* What a whole cluster is, for the question what clearing it has to change. */
struct clearance {
    bool below;       /* a backing file may have data here, now or later */
    bool unallocated; /* the entry says nothing at all */
    bool reads_zero;
};

static int look_at(const struct qcow2 *q, struct qcow2_entry entry, uint64_t cluster_off,
                   enum qcow2_clear how, struct clearance *ret_c)
{
    struct qcow2_extent extent;
    int r = qcow2_decode(q, entry, cluster_off, &extent);
    bool uniform = extent.len == q->cluster_size;

    if (r < 0)
        return r;
    ret_c->below =
        how == QCOW2_CLEAR_ZERO_OWN || (q->block.backing && cluster_off < q->block.backing->len);
    ret_c->unallocated = uniform && extent.kind == QCOW2_UNALLOCATED && !extent.has_space;
    ret_c->reads_zero = uniform && (extent.kind == QCOW2_ZEROES ||
                                    (extent.kind == QCOW2_UNALLOCATED && !ret_c->below));
    return 0;
}

/* A cluster that reads as zero, in the space of `entry` (0: none). */
static struct qcow2_entry zero_entry(const struct qcow2 *q, uint64_t entry)
{
    if (qcow2_has_subclusters(q))
        return (struct qcow2_entry){entry, ALL_SUBCLUSTERS << 32};
    return (struct qcow2_entry){entry | QCOW2_ZERO, 0};
}

/* What an entry becomes. -ENOTSUP: there is no entry that says this. */
static int cleared_entry(const struct qcow2 *q, uint64_t cluster_off, struct qcow2_entry old,
                         enum qcow2_clear how, struct qcow2_entry *ret_entry)
{
    bool keep = qcow2_clear_keeps_space(how) || q->raw_data;
    struct clearance c;
    int r = look_at(q, old, cluster_off, how, &c);

    if (r < 0)
        return r;
    if ((c.reads_zero && (keep || !qcow2_entry_has_space(q, old.entry))) ||
        (c.unallocated && how == QCOW2_CLEAR_DISCARD))
        *ret_entry = old; /* as it should be already */
    else if (keep && has_own_space(q, old) && q->version >= 3)
        *ret_entry = zero_entry(q, old.entry);
    else if (!c.below)
        *ret_entry = (struct qcow2_entry){0, 0};
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
    struct qcow2_entry entry = old;
    int r = cleared_entry(q, cluster_off, old, how, &entry);

    if (r == -ENOTSUP && how == QCOW2_CLEAR_DISCARD)
        return 0; /* a hint that cannot be followed */
    if (r < 0 || (entry.entry == old.entry && entry.bitmap == old.bitmap))
        return r;
    if (!qcow2_entry_has_space(q, entry.entry))
        free_entry(q, cluster_off, old.entry, !qcow2_clear_keeps_space(how) && q->block.discard);
    qcow2_entry_set(q, slice, i, entry);
    return 0;
}

/* Some subclusters: they keep the space that they have. */
static int clear_subclusters(struct qcow2 *q, struct qcow2_slice *slice, uint64_t off, uint64_t end)
{
    unsigned i = qcow2_slice_index(q, off);
    struct qcow2_entry entry = qcow2_entry_get(q, slice, i);
    uint64_t mask = subcluster_mask(q, align_down(off, q->cluster_size), off, end);

    if (entry.entry & QCOW2_COMPRESSED)
        return -ENOTSUP;
    entry.bitmap = (entry.bitmap & ~mask) | (mask << 32);
    qcow2_entry_set(q, slice, i, entry);
    return 0;
}

/* Without an L2 table: is there nothing to be done? */
static bool is_clear(const struct qcow2 *q, uint64_t off, enum qcow2_clear how)
{
    return how != QCOW2_CLEAR_ZERO_OWN &&
           (q->l1.entries[qcow2_l1_index(q, off)] & QCOW2_OFF_MASK) == 0 &&
           (how == QCOW2_CLEAR_DISCARD || !q->block.backing || off >= q->block.backing->len);
}

uint64_t qcow2_clear_piece(const struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t rest = q->cluster_size - qcow2_in_cluster(q, off);

    if (rest < q->cluster_size || len < q->cluster_size)
        return min_u64(len, rest);
    return align_down(min_u64(len, qcow2_slice_rest(q, off)), q->cluster_size);
}

int qcow2_clear(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    uint64_t end = off + len;
    struct qcow2_slice *slice;
    int r = 0;

    co_mutex_lock(&q->lock);
    if (!is_clear(q, off, how)) {
        r = own_slice(q, off, &slice);
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
