/*
 * From guest offsets to host offsets: reading L2 entries, and changing them.
 *
 *     off:  | L1 index | L2 index | in cluster |
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2.h"
#include "vmm/base/bytes.h"
#include "vmm/base/log.h"

/* ---- looking up ---------------------------------------------------------------------------------- */

static uint32_t l1_index(const struct qcow2 *q, uint64_t off)
{
    return (uint32_t)(off >> (q->cluster_bits + q->l2_bits));
}

static unsigned slice_entries(const struct qcow2 *q)
{
    return 1u << (q->slice_bits - 3);
}

/* The entry's index in its slice, and the slice's place in the L2 table. */
static unsigned slice_index(const struct qcow2 *q, uint64_t off)
{
    return (unsigned)(off >> q->cluster_bits) & (slice_entries(q) - 1);
}

static uint64_t slice_host(const struct qcow2 *q, uint64_t table, uint64_t off)
{
    uint64_t in_table = (off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);

    return table + align_down(in_table * sizeof(uint64_t), qcow2_slice_size(q));
}

static uint64_t entry_get(const struct qcow2_slice *slice, unsigned i)
{
    return load_be64(slice->data + i * sizeof(uint64_t));
}

static void entry_set(struct qcow2 *q, struct qcow2_slice *slice, unsigned i, uint64_t entry)
{
    store_be64(slice->data + i * sizeof(uint64_t), entry);
    qcow2_slice_dirty(q, slice);
}

/* Where the L2 table of an offset is; 0: there is none. */
static int l2_table(const struct qcow2 *q, uint64_t off, uint64_t *ret_table)
{
    uint64_t table = q->l1.entries[l1_index(q, off)] & QCOW2_OFF_MASK;

    if (!is_aligned(table, q->cluster_size) || table >= QCOW2_HOST_MAX) {
        log_guest(LOG_WARN, "%s: an L1 entry is not the offset of a cluster: %#llx", q->path,
                  (unsigned long long)table);
        return -EIO;
    }
    *ret_table = table;
    return 0;
}

static int bad_entry(const struct qcow2 *q, uint64_t entry)
{
    log_guest(LOG_WARN, "%s: an L2 entry makes no sense: %#llx", q->path,
              (unsigned long long)entry);
    return -EIO;
}

/* What an L2 entry says about its own cluster. */
static int decode(const struct qcow2 *q, uint64_t entry, struct qcow2_extent *ret_extent)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    *ret_extent = (struct qcow2_extent){.len = q->cluster_size, .entry = entry};
    if (entry & QCOW2_COMPRESSED) {
        ret_extent->kind = QCOW2_PACKED;
        return 0;
    }
    if (!is_aligned(host, q->cluster_size) || host >= QCOW2_HOST_MAX)
        return bad_entry(q, entry);
    if (entry & QCOW2_ZERO) {
        if (q->version < 3)
            return bad_entry(q, entry);
        ret_extent->kind = QCOW2_ZEROES;
    } else {
        ret_extent->kind = host ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
    }
    ret_extent->host = host;
    ret_extent->copied = host && (entry & QCOW2_COPIED);
    return 0;
}

/* Is `next` the same kind of thing, right behind `extent`? */
static bool continues(const struct qcow2_extent *extent, const struct qcow2_extent *next)
{
    if (next->kind != extent->kind || next->copied != extent->copied)
        return false;
    switch (extent->kind) {
    case QCOW2_UNALLOCATED:
        return true;
    case QCOW2_ZEROES:
        return (next->host == 0) == (extent->host == 0) &&
               (next->host == 0 || next->host == extent->host + extent->len);
    case QCOW2_NORMAL:
        return next->host == extent->host + extent->len;
    default:
        return false; /* each compressed cluster is for itself */
    }
}

/* As decode, for as many of the clusters from entry `i` on as make one extent, at most `max`. */
static int decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, unsigned i,
                      uint64_t max, struct qcow2_extent *ret_extent)
{
    unsigned end = (unsigned)min_u64(slice_entries(q), i + max);
    int r = decode(q, entry_get(slice, i), ret_extent);

    while (r == 0 && ++i < end) {
        struct qcow2_extent next;

        /* A bad entry is reported to those who ask for it. */
        if (decode(q, entry_get(slice, i), &next) < 0 || !continues(ret_extent, &next))
            break;
        ret_extent->len += q->cluster_size;
    }
    return r;
}

/* Cut the extent of whole clusters to the bytes asked for. */
static void cut(const struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_extent *extent)
{
    uint64_t in_cluster = off & (q->cluster_size - 1);

    extent->len = min_u64(extent->len - in_cluster, len);
    if (extent->host)
        extent->host += in_cluster;
}

int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, bool cached_only,
              struct qcow2_extent *ret_extent)
{
    uint64_t clusters =
        ((off & (q->cluster_size - 1)) + len + q->cluster_size - 1) >> q->cluster_bits;
    struct qcow2_slice *slice;
    uint64_t table;
    int r = l2_table(q, off, &table);

    if (r < 0)
        return r;
    if (table == 0) {
        uint64_t covered = 1ull << (q->cluster_bits + q->l2_bits);

        *ret_extent = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED};
        ret_extent->len = min_u64(len, covered - (off & (covered - 1)));
        return 0;
    }
    if (cached_only) {
        const struct qcow2_slice *known = qcow2_slice_peek(q, slice_host(q, table, off));

        if (!known || known->kind != QCOW2_L2)
            return -EAGAIN;
        r = decode_run(q, known, slice_index(q, off), clusters, ret_extent);
    } else {
        r = qcow2_slice_get(q, QCOW2_L2, slice_host(q, table, off), &slice);
        if (r < 0)
            return r;
        r = decode_run(q, slice, slice_index(q, off), clusters, ret_extent);
        qcow2_slice_put(q, slice);
    }
    if (r == 0)
        cut(q, off, len, ret_extent);
    return r;
}

static bool backing_reads_zero(const struct qcow2 *q, uint64_t off, uint64_t len)
{
    struct block *backing = q->block.backing;

    if (!backing || off >= backing->len)
        return true;
    return backing->driver->is_zero(backing, off, min_u64(len, backing->len - off));
}

bool qcow2_reads_zero(struct qcow2 *q, uint64_t off, uint64_t len)
{
    while (len > 0) {
        struct qcow2_extent extent;

        if (qcow2_map(q, off, len, true, &extent) < 0)
            return false;
        if (extent.kind == QCOW2_NORMAL || extent.kind == QCOW2_PACKED)
            return false;
        if (extent.kind == QCOW2_UNALLOCATED && !backing_reads_zero(q, off, extent.len))
            return false;
        off += extent.len;
        len -= extent.len;
    }
    return true;
}

void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len)
{
    /* "Compressed Clusters Descriptor": the offset, then the sectors after the first. */
    unsigned off_bits = 62 - (q->cluster_bits - 8);
    uint64_t host = entry & ((1ull << off_bits) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> off_bits) + 1;

    *ret_host = host;
    *ret_len = sectors * BLOCK_SECTOR_SIZE - (host & (BLOCK_SECTOR_SIZE - 1));
}

/* ---- L2 tables that may be changed --------------------------------------------------------------- */

/* Make a new L2 table's contents in the file: those of `old`, or zeroes. */
static int fill_l2(struct qcow2 *q, uint64_t host, uint64_t old, bool fresh)
{
    uint8_t *data;
    int r;

    if (old == 0) {
        uint64_t last = qcow2_slice_size(q);

        /* The file must be long enough to hold the table, or it could not be read again. */
        r = fresh ? 0 : file_zero(q->block.file, host, q->cluster_size, false);
        return r < 0 ? r
                     : file_write(q->block.file, host + q->cluster_size - last, file_zeroes, last);
    }
    data = malloc(q->cluster_size);
    if (!data)
        return -ENOMEM;
    /* A table with more than one owner is never changed, so the file has all of it. */
    r = file_read(q->block.file, old, data, q->cluster_size);
    if (r == 0)
        r = file_write(q->block.file, host, data, q->cluster_size);
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
    uint32_t index = l1_index(q, off);
    uint64_t table;
    int r = l2_table(q, off, &table);

    if (r == 0 && !(table && (q->l1.entries[index] & QCOW2_COPIED)))
        r = own_l2(q, index);
    if (r == 0)
        r = l2_table(q, off, &table);
    return r < 0 ? r : qcow2_slice_get(q, QCOW2_L2, slice_host(q, table, off), ret_slice);
}

/* Remember that the guest no longer uses what an entry points at. */
static void free_entry(struct qcow2 *q, uint64_t entry, bool punch)
{
    uint64_t host = entry & QCOW2_OFF_MASK;

    if (entry & QCOW2_COMPRESSED) {
        uint64_t len;
        uint64_t first;

        /* Compressed clusters share host clusters; each holds a reference to all it touches. */
        qcow2_packed_range(q, entry, &host, &len);
        first = qcow2_cluster_of(q, host);
        qcow2_freed_add(&q->freed, first, qcow2_cluster_of(q, host + len - 1) - first + 1, punch);
        qcow2_drop_inflated(q);
    } else if (host) {
        qcow2_freed_add(&q->freed, qcow2_cluster_of(q, host), 1, punch);
    }
}

/* ---- allocating writes --------------------------------------------------------------------------- */

/* Clusters from entry `i` on, at most `max`, that a write must find new space for. */
static unsigned count_homeless(const struct qcow2 *q, const struct qcow2_slice *slice, unsigned i,
                               uint64_t max)
{
    unsigned n = 0;

    for (; n < max && i + n < slice_entries(q); n++) {
        struct qcow2_extent extent;

        if (decode(q, entry_get(slice, i + n), &extent) < 0 || extent.copied)
            break;
    }
    return n;
}

static int find_space(struct qcow2 *q, struct qcow2_slice *slice, unsigned i, uint64_t clusters,
                      struct qcow2_alloc *alloc)
{
    struct qcow2_extent extent;
    uint64_t cluster;
    int r = decode_run(q, slice, i, clusters, &extent);

    if (r < 0)
        return r;
    if (extent.copied) {
        alloc->reuse = extent.kind == QCOW2_ZEROES;
        alloc->n = alloc->reuse ? extent.len >> q->cluster_bits : 0;
        alloc->host = extent.host;
        return 0;
    }
    r = qcow2_alloc_clusters(q, count_homeless(q, slice, i, clusters), &cluster, &alloc->n,
                             &alloc->fresh);
    alloc->host = r < 0 ? 0 : cluster << q->cluster_bits;
    return r;
}

int qcow2_alloc_begin(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_alloc *ret_alloc)
{
    uint64_t start = align_down(off, q->cluster_size);
    uint64_t clusters = (off + len - start + q->cluster_size - 1) >> q->cluster_bits;
    struct qcow2_slice *slice;
    int r;

    *ret_alloc = (struct qcow2_alloc){.off = start};
    co_mutex_lock(&q->lock);
    r = own_slice(q, off, &slice);
    if (r == 0) {
        r = find_space(q, slice, slice_index(q, off), clusters, ret_alloc);
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

int qcow2_alloc_commit(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    unsigned first = slice_index(q, alloc->off);
    struct qcow2_slice *slice;
    int r;

    co_mutex_lock(&q->lock);
    r = own_slice(q, alloc->off, &slice);
    if (r == 0) {
        for (uint64_t i = 0; i < alloc->n; i++) {
            unsigned at = first + (unsigned)i;

            if (!alloc->reuse)
                free_entry(q, entry_get(slice, at), false);
            entry_set(q, slice, at, (alloc->host + (i << q->cluster_bits)) | QCOW2_COPIED);
        }
        qcow2_slice_put(q, slice);
    }
    co_mutex_unlock(&q->lock);
    return r;
}

void qcow2_alloc_abort(struct qcow2 *q, const struct qcow2_alloc *alloc)
{
    if (alloc->reuse || alloc->n == 0)
        return;
    co_mutex_lock(&q->lock);
    qcow2_unalloc_clusters(q, qcow2_cluster_of(q, alloc->host), alloc->n);
    co_mutex_unlock(&q->lock);
}

/* ---- zeroes and discards -------------------------------------------------------------------------- */

/* What an entry becomes. -ENOTSUP: there is no entry that says this. */
static int cleared_entry(const struct qcow2 *q, uint64_t off, const struct qcow2_extent *extent,
                         enum qcow2_clear how, uint64_t *ret_entry)
{
    bool below = q->block.backing && off < q->block.backing->len;

    bool reads_zero = extent->kind == QCOW2_ZEROES || (extent->kind == QCOW2_UNALLOCATED && !below);
    bool space_to_free = extent->host && how != QCOW2_CLEAR_ZERO;

    if ((reads_zero && !space_to_free) ||
        (extent->kind == QCOW2_UNALLOCATED && how == QCOW2_CLEAR_DISCARD))
        *ret_entry = extent->entry; /* as it should be already */
    else if (how == QCOW2_CLEAR_ZERO && extent->copied && q->version >= 3)
        *ret_entry = extent->entry | QCOW2_ZERO;
    else if (!below)
        *ret_entry = 0;
    else if (q->version >= 3)
        *ret_entry = QCOW2_ZERO;
    else
        return -ENOTSUP;
    return 0;
}

static int clear_one(struct qcow2 *q, struct qcow2_slice *slice, unsigned i, uint64_t off,
                     enum qcow2_clear how)
{
    uint64_t old = entry_get(slice, i);
    struct qcow2_extent extent;
    uint64_t entry = old;
    int r = decode(q, old, &extent);

    if (r == 0)
        r = cleared_entry(q, off, &extent, how, &entry);
    if (r == -ENOTSUP && how == QCOW2_CLEAR_DISCARD)
        return 0; /* a hint that cannot be followed */
    if (r < 0 || entry == old)
        return r;
    if ((entry & QCOW2_OFF_MASK) == 0)
        free_entry(q, old, how != QCOW2_CLEAR_ZERO && q->block.discard);
    entry_set(q, slice, i, entry);
    return 0;
}

/* Without an L2 table: is there nothing to be done? */
static bool is_clear(const struct qcow2 *q, uint64_t off, enum qcow2_clear how)
{
    return (q->l1.entries[l1_index(q, off)] & QCOW2_OFF_MASK) == 0 &&
           (how == QCOW2_CLEAR_DISCARD || !q->block.backing || off >= q->block.backing->len);
}

int qcow2_clear(struct qcow2 *q, uint64_t off, uint64_t n, enum qcow2_clear how, uint64_t *ret_n)
{
    unsigned first = slice_index(q, off);
    struct qcow2_slice *slice;
    uint64_t i = 0;
    int r = 0;

    n = min_u64(n, slice_entries(q) - first);
    co_mutex_lock(&q->lock);
    if (!is_clear(q, off, how)) {
        r = own_slice(q, off, &slice);
        if (r == 0) {
            for (; i < n && r == 0; i++)
                r = clear_one(q, slice, first + (unsigned)i, off + (i << q->cluster_bits), how);
            qcow2_slice_put(q, slice);
        }
    }
    co_mutex_unlock(&q->lock);
    *ret_n = n;
    return r;
}
