/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the L2 entry of a guest offset is.
 *
 *     off:  | L1 index | L2 index | in cluster |
 *
 * A table is looked at through slices of at most 4 KiB (meta/cache.c).
 */
#ifndef MINIVMM_BLOCK_QCOW2_REQUEST_L2_H
#define MINIVMM_BLOCK_QCOW2_REQUEST_L2_H

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/qcow2.h"

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

/* The index in its slice of the entry for `off`. */
static inline unsigned qcow2_slice_index(const struct qcow2 *q, uint64_t off)
{
    return (unsigned)(off >> q->cluster_bits) & (qcow2_slice_entries(q) - 1);
}

/* The place in the file of the slice that maps `off`, in the L2 table at `table`. */
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

/* The bits of the subclusters that [off, end) and the cluster at `cluster_off` have in common. */
static inline uint32_t qcow2_subcluster_mask(const struct qcow2 *q, uint64_t cluster_off,
                                             uint64_t off, uint64_t end)
{
    uint64_t unit = qcow2_unit_size(q);
    uint64_t first = off > cluster_off ? (off - cluster_off) / unit : 0;
    uint64_t last = min_u64(div_round_up(end - cluster_off, unit), QCOW2_SUBCLUSTERS);

    return (uint32_t)(((1ull << last) - 1) & ~((1ull << first) - 1));
}

static inline struct qcow2_entry qcow2_entry_get(const struct qcow2 *q,
                                                 const struct qcow2_slice *slice, unsigned i)
{
    return qcow2_entry_decode(q, slice->data, i);
}

/* Change entry `i` of the slice. `bitmap` is not used without extended L2 entries. */
static inline void qcow2_entry_set(struct qcow2 *q, struct qcow2_slice *slice, unsigned i,
                                   uint64_t entry, uint64_t bitmap)
{
    uint8_t *at = slice->data + ((size_t)i << q->l2_entry_bits);

    store_be64(at, entry);
    if (qcow2_has_subclusters(q))
        store_be64(at + 8, bitmap);
    qcow2_slice_dirty(q, slice);
}

#endif
