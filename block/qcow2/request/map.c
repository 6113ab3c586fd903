/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/map.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/l2.h"

/* ---- L1 entries ------------------------------------------------------------------------------ */

int qcow2_l2_table(const struct qcow2 *q, uint64_t off, uint64_t *ret_table)
{
    uint32_t index = qcow2_l1_index(q, off);
    uint64_t table;

    if (index >= q->l1.n)
        return -EIO; /* the tables could not be read again after a change (switch/switch.c) */
    table = q->l1.entries[index] & QCOW2_OFF_MASK;
    if (!is_aligned(table, q->cluster_size) || table >= QCOW2_HOST_MAX) {
        log_guest(LOG_WARN, "%s: an L1 entry is not the offset of a cluster: %#llx", q->path,
                  (unsigned long long)table);
        return -EIO;
    }
    *ret_table = table;
    return 0;
}

/* ---- L2 entries ------------------------------------------------------------------------------ */

static int bad_entry(const struct qcow2 *q, const struct qcow2_entry *entry)
{
    log_guest(LOG_WARN, "%s: an L2 entry makes no sense: %#llx %#llx", q->path,
              (unsigned long long)entry->entry, (unsigned long long)entry->bitmap);
    return -EIO;
}

/* Can there be such an entry for the cluster at `off`? */
static bool makes_sense(const struct qcow2 *q, const struct qcow2_entry *entry, uint64_t off)
{
    if (entry->kind == QCOW2_PACKED)
        return !qcow2_has_data_file(q);
    if (!is_aligned(entry->host, q->cluster_size) || entry->host >= QCOW2_HOST_MAX)
        return false;
    if (qcow2_has_data_file(q) && entry->has_space && entry->host != off)
        return false;
    return entry->kind != QCOW2_ZEROES || q->version >= 3;
}

/*
 * Set *ret_kind to the kind of subcluster `n`, and *ret_like to how many from `n` on are like it.
 */
static int decode_subcluster(const struct qcow2 *q, const struct qcow2_entry *entry, unsigned n,
                             enum qcow2_kind *ret_kind, unsigned *ret_like)
{
    uint32_t held = (uint32_t)entry->bitmap;
    uint32_t zero = (uint32_t)(entry->bitmap >> 32);
    bool is_held = held >> n & 1;
    bool is_zero = zero >> n & 1;
    uint32_t unlike = ((is_held ? ~held : held) | (is_zero ? ~zero : zero)) >> n;

    if (is_held && (is_zero || !entry->has_space))
        return bad_entry(q, entry);
    *ret_kind = is_held ? QCOW2_NORMAL : is_zero ? QCOW2_ZEROES : QCOW2_UNALLOCATED;
    *ret_like = unlike ? (unsigned)__builtin_ctz(unlike) : QCOW2_SUBCLUSTERS - n;
    return 0;
}

int qcow2_extent_decode(const struct qcow2 *q, const struct qcow2_entry *entry, uint64_t off,
                        struct qcow2_extent *ret_extent)
{
    uint64_t in_cluster = qcow2_in_cluster(q, off);
    unsigned n;
    unsigned like = 0;
    int r;

    *ret_extent = (struct qcow2_extent){
        .kind = entry->kind, .len = q->cluster_size - in_cluster, .entry = entry->entry};
    if (!makes_sense(q, entry, off - in_cluster))
        return bad_entry(q, entry);
    if (entry->kind == QCOW2_PACKED)
        return 0;
    ret_extent->has_space = entry->has_space;
    ret_extent->host = entry->has_space ? entry->host + in_cluster : 0;
    ret_extent->copied = entry->has_space && (entry->entry & QCOW2_COPIED);
    if (!qcow2_has_subclusters(q))
        return 0;
    n = (unsigned)(in_cluster / qcow2_unit_size(q));
    r = decode_subcluster(q, entry, n, &ret_extent->kind, &like);
    if (r == 0)
        ret_extent->len = (n + like) * qcow2_unit_size(q) - in_cluster;
    return r;
}

/* Do `extent` and `next`, right after it on the disk, make one extent? */
static bool continues(const struct qcow2_extent *extent, const struct qcow2_extent *next)
{
    if (extent->kind == QCOW2_PACKED) /* each packed cluster is an extent of its own */
        return false;
    return next->kind == extent->kind && next->copied == extent->copied &&
           next->has_space == extent->has_space &&
           (!next->has_space || next->host == extent->host + extent->len);
}

static int decode_at(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                     struct qcow2_extent *ret_extent)
{
    struct qcow2_entry entry = qcow2_entry_get(q, slice, qcow2_slice_index(q, off));

    return qcow2_extent_decode(q, &entry, off, ret_extent);
}

int qcow2_extent_decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                            uint64_t len, struct qcow2_extent *ret_extent)
{
    int r = decode_at(q, slice, off, ret_extent);

    len = min_u64(len, qcow2_slice_rest(q, off));
    while (r == 0 && ret_extent->len < len) {
        struct qcow2_extent next;

        /* A bad entry ends the extent; only a lookup of its own cluster reports it. */
        if (decode_at(q, slice, off + ret_extent->len, &next) < 0 || !continues(ret_extent, &next))
            break;
        ret_extent->len += next.len;
    }
    ret_extent->len = min_u64(ret_extent->len, len);
    return r;
}

/* ---- looking up ------------------------------------------------------------------------------ */

/*
 * Set *ret_host to the place of the slice that maps `off`. It is 0 if there is no L2 table: then
 * *ret_extent says that all that the table would map is unallocated.
 */
static int find_slice(const struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_host,
                      struct qcow2_extent *ret_extent)
{
    uint64_t covered = 1ull << (q->cluster_bits + q->l2_bits);
    uint64_t table = 0;
    int r = qcow2_l2_table(q, off, &table);

    *ret_extent = (struct qcow2_extent){
        .kind = QCOW2_UNALLOCATED,
        .len = min_u64(len, covered - (off & (covered - 1))),
    };
    *ret_host = table ? qcow2_slice_host(q, table, off) : 0;
    return r;
}

int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_extent *ret_extent)
{
    struct qcow2_slice *slice;
    uint64_t host;
    int r = find_slice(q, off, len, &host, ret_extent);

    if (r < 0 || host == 0)
        return r;
    r = qcow2_slice_get(q, QCOW2_L2, host, &slice);
    if (r < 0)
        return r;
    r = qcow2_extent_decode_run(q, slice, off, len, ret_extent);
    qcow2_slice_put(q, slice);
    return r;
}

int qcow2_map_cached(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_extent *ret_extent)
{
    const struct qcow2_slice *slice;
    uint64_t host;
    int r = find_slice(q, off, len, &host, ret_extent);

    if (r < 0 || host == 0)
        return r;
    slice = qcow2_slice_peek(q, host);
    if (!slice || slice->kind != QCOW2_L2)
        return -EAGAIN;
    return qcow2_extent_decode_run(q, slice, off, len, ret_extent);
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

        if (qcow2_map_cached(q, off, len, &extent) < 0)
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
