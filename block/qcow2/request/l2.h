/*
 * L2 tables and their entries; private to request/map.c and request/alloc.c.
 *
 *     off:  | L1 index | L2 index | in cluster |
 *
 * A table is looked at through slices of at most 4 KiB (meta/cache.c). Without extended L2 entries
 * a cluster is all of one kind. With them it has 32 subclusters, and the entry a bitmap that says
 * of each: bit n, the cluster holds it; bit 32 + n, it reads as zero; neither, ask the backing
 * file. A "unit" is the smallest part of the disk with a kind of its own: a subcluster, or a
 * cluster.
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_L2_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_L2_H

#include "base/bytes.h"
#include "block/qcow2/qcow2.h"

#define QCOW2_SUBCLUSTERS 32u

struct qcow2_entry {
    uint64_t entry;
    uint64_t bitmap; /* 0 without extended L2 entries */
};

static inline bool qcow2_has_subclusters(const struct qcow2 *q)
{
    return q->l2_entry_bits == 4;
}

static inline uint64_t qcow2_unit_size(const struct qcow2 *q)
{
    return qcow2_has_subclusters(q) ? q->cluster_size / QCOW2_SUBCLUSTERS : q->cluster_size;
}

static inline uint64_t qcow2_in_cluster(const struct qcow2 *q, uint64_t off)
{
    return off & (q->cluster_size - 1);
}

static inline uint32_t qcow2_l1_index(const struct qcow2 *q, uint64_t off)
{
    return (uint32_t)(off >> (q->cluster_bits + q->l2_bits));
}

static inline unsigned qcow2_slice_entries(const struct qcow2 *q)
{
    return 1u << (q->slice_bits - q->l2_entry_bits);
}

/* The index of an offset's entry in its slice, and the place of the slice in the file. */
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t off)
{
    return (unsigned)(off >> q->cluster_bits) & (qcow2_slice_entries(q) - 1);
}

static inline uint64_t qcow2_slice_host(const struct qcow2 *q, uint64_t table, uint64_t off)
{
    uint64_t in_table = (off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);

    return table + align_down(in_table << q->l2_entry_bits, qcow2_slice_size(q));
}

/* Bytes of the disk from `off` to the end of what its slice maps. */
static inline uint64_t qcow2_slice_rest(const struct qcow2 *q, uint64_t off)
{
    uint64_t covers = (uint64_t)qcow2_slice_entries(q) << q->cluster_bits;

    return covers - (off & (covers - 1));
}

static inline struct qcow2_entry qcow2_entry_get(const struct qcow2 *q,
                                                 const struct qcow2_slice *slice, unsigned i)
{
    const uint8_t *at = slice->data + ((size_t)i << q->l2_entry_bits);

    return (struct qcow2_entry){load_be64(at), qcow2_has_subclusters(q) ? load_be64(at + 8) : 0};
}

static inline void qcow2_entry_set(struct qcow2 *q, struct qcow2_slice *slice, unsigned i,
                                   struct qcow2_entry entry)
{
    uint8_t *at = slice->data + ((size_t)i << q->l2_entry_bits);

    store_be64(at, entry.entry);
    if (qcow2_has_subclusters(q))
        store_be64(at + 8, entry.bitmap);
    qcow2_slice_dirty(q, slice);
}

/*
 * In an external data file a cluster may lie at offset 0, and COPIED tells it from one that has no
 * place; in the image file 0 is the header's.
 */
static inline bool qcow2_entry_has_space(const struct qcow2 *q, uint64_t entry)
{
    return !(entry & QCOW2_COMPRESSED) &&
           ((entry & QCOW2_OFF_MASK) || (q->data != q->block.file && (entry & QCOW2_COPIED)));
}

/* Where the L2 table of an offset is; 0: there is none. -EIO if the L1 entry makes no sense. */
int qcow2_l2_table(const struct qcow2 *q, uint64_t off, uint64_t *ret_table) MUST_CHECK;

/* What the entry of the cluster at `off` says about `off` and the bytes that follow in it. */
int qcow2_decode(const struct qcow2 *q, struct qcow2_entry entry, uint64_t off,
                 struct qcow2_extent *ret_extent) MUST_CHECK;

/* The same for at most `len` bytes of the slice, as far as it is one extent. */
int qcow2_decode_run(const struct qcow2 *q, const struct qcow2_slice *slice, uint64_t off,
                     uint64_t len, struct qcow2_extent *ret_extent) MUST_CHECK;

#endif
