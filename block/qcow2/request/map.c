/*
 * From guest offsets to host offsets: looking up.
 */
#include <errno.h>

#include "base/log.h"
#include "block/qcow2/request/l2.h"

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

/* ---- entries --------------------------------------------------------------------------------- */

static int bad_entry(const struct qcow2 *q, struct qcow2_entry entry)
{
    log_guest(LOG_WARN, "%s: an L2 entry makes no sense: %#llx %#llx", q->path,
              (unsigned long long)entry.entry, (unsigned long long)entry.bitmap);
    return -EIO;
}

/* The kind of subcluster `n`, and how many from there to the cluster's end are like it. */
static int decode_subcluster(const struct qcow2 *q, struct qcow2_entry entry, unsigned n,
                             bool has_space, struct qcow2_extent *extent, unsigned *ret_like)
{
    uint32_t held = (uint32_t)entry.bitmap;
    uint32_t zero = (uint32_t)(entry.bitmap >> 32);
    bool is_held = held >> n & 1;
    bool is_zero = zero >> n & 1;
    uint32_t unlike = ((is_held ? ~held : held) | (is_zero ? ~zero : zero)) >> n;

    if (is_held && (is_zero || !has_space))
        return bad_entry(q, entry);
    extent->kind = is_held ? QCOW2_NORMAL : is_zero ? QCOW2_ZEROES : QCOW2_UNALLOCATED;
    *ret_like = unlike ? (unsigned)__builtin_ctz(unlike) : QCOW2_SUBCLUSTERS - n;
    return 0;
}

int qcow2_decode(const struct qcow2 *q, struct qcow2_entry entry, uint64_t off,
                 struct qcow2_extent *ret_extent)
{
    uint64_t in_cluster = qcow2_in_cluster(q, off);
    uint64_t host = entry.entry & QCOW2_OFF_MASK;
    bool has_space = qcow2_entry_has_space(q, entry.entry);
    int r;

    *ret_extent = (struct qcow2_extent){.len = q->cluster_size - in_cluster, .entry = entry.entry};
    if (entry.entry & QCOW2_COMPRESSED) {
        ret_extent->kind = QCOW2_PACKED;
        return q->data == q->block.file ? 0 : bad_entry(q, entry);
    }
    if (!is_aligned(host, q->cluster_size) || host >= QCOW2_HOST_MAX)
        return bad_entry(q, entry);
    if (q->data != q->block.file && has_space && host != off - in_cluster)
        return bad_entry(q, entry);
    ret_extent->has_space = has_space;
    ret_extent->host = has_space ? host + in_cluster : 0;
    ret_extent->copied = has_space && (entry.entry & QCOW2_COPIED);
    if (qcow2_has_subclusters(q)) {
        unsigned n = (unsigned)(in_cluster / qcow2_unit_size(q));
        unsigned like = 0;

        r = decode_subcluster(q, entry, n, has_space, ret_extent, &like);
        if (r == 0)
            ret_extent->len = (n + like) * qcow2_unit_size(q) - in_cluster;
        return r;
    }
    if (entry.entry & QCOW2_ZERO) {
        if (q->version < 3)
            return bad_entry(q, entry);
        ret_extent->kind = QCOW2_ZEROES;
    } else {
        ret_extent->kind = has_space ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
    }
    return 0;
}

/* Is `next` the same kind of thing, right behind `extent`? */
static bool continues(const struct qcow2_extent *extent, const struct qcow2_extent *next)
{
    if (extent->kind == QCOW2_PACKED) /* each is for itself */
        return false;
    return next->kind == extent->kind && next->copied == extent->copied &&
           next->has_space == extent->has_space &&
           (!next->has_space || next->host == extent->host + extent->len);
}

int qcow2_decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                     uint64_t len, struct qcow2_extent *ret_extent)
{
    unsigned i = qcow2_slice_index(q, off);
    int r = qcow2_decode(q, qcow2_entry_get(q, slice, i), off, ret_extent);

    len = min_u64(len, qcow2_slice_rest(q, off));
    while (r == 0 && ret_extent->len < len) {
        uint64_t at = off + ret_extent->len;
        struct qcow2_extent next;

        /* A bad entry is reported to those who ask for it. */
        if (qcow2_decode(q, qcow2_entry_get(q, slice, qcow2_slice_index(q, at)), at, &next) < 0 ||
            !continues(ret_extent, &next))
            break;
        ret_extent->len += next.len;
    }
    ret_extent->len = min_u64(ret_extent->len, len);
    return r;
}

/* "Compressed Clusters Descriptor": the offset, then the sectors after the first. */
static unsigned packed_off_bits(const struct qcow2 *q)
{
    return 62 - (q->cluster_bits - 8);
}

uint64_t qcow2_packed_max(const struct qcow2 *q)
{
    return min_u64(1ull << packed_off_bits(q), QCOW2_HOST_MAX);
}

uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t sectors = (host + len - 1) / BLOCK_SECTOR_SIZE - host / BLOCK_SECTOR_SIZE;

    return QCOW2_COMPRESSED | (sectors << packed_off_bits(q)) | host;
}

void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len)
{
    unsigned off_bits = packed_off_bits(q);
    uint64_t host = entry & ((1ull << off_bits) - 1);
    uint64_t sectors = ((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> off_bits) + 1;

    *ret_host = host;
    *ret_len = sectors * BLOCK_SECTOR_SIZE - (host & (BLOCK_SECTOR_SIZE - 1));
}

/* ---- looking up ------------------------------------------------------------------------------ */

int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, bool cached_only,
              struct qcow2_extent *ret_extent)
{
    struct qcow2_slice *slice;
    uint64_t table;
    int r = qcow2_l2_table(q, off, &table);

    if (r < 0)
        return r;
    if (table == 0) {
        uint64_t covered = 1ull << (q->cluster_bits + q->l2_bits);

        *ret_extent = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED};
        ret_extent->len = min_u64(len, covered - (off & (covered - 1)));
        return 0;
    }
    if (cached_only) {
        const struct qcow2_slice *known = qcow2_slice_peek(q, qcow2_slice_host(q, table, off));

        if (!known || known->kind != QCOW2_L2)
            return -EAGAIN;
        return qcow2_decode_run(q, known, off, len, ret_extent);
    }
    r = qcow2_slice_get(q, QCOW2_L2, qcow2_slice_host(q, table, off), &slice);
    if (r < 0)
        return r;
    r = qcow2_decode_run(q, slice, off, len, ret_extent);
    qcow2_slice_put(q, slice);
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
