/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of L1 tables, L2 tables and the refcount table as they are in the file ("Cluster mapping"
 * in the specification).
 *
 * Without extended L2 entries a cluster is all of one kind. With them a cluster has 32 subclusters,
 * and its entry has a bitmap: bit n says that the cluster holds subcluster n, bit 32 + n that
 * subcluster n reads as zero. If neither bit is set, the backing file has the subcluster; if both
 * are, the entry is damaged. A "unit" is the smallest piece of the disk with a kind of its own: a
 * subcluster where the image has them, else a cluster.
 */
#ifndef MINIVMM_BLOCK_QCOW2_FORMAT_ENTRY_H
#define MINIVMM_BLOCK_QCOW2_FORMAT_ENTRY_H

#include "block/qcow2/qcow2.h"

#define QCOW2_COPIED (1ull << 63) /* the refcount is exactly one: may be written in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3 */
#define QCOW2_OFF_MASK 0x00fffffffffffe00ull

/* Bits that must not be set; those of L2 entries only where the cluster is not compressed. */
#define QCOW2_L2_RESERVED 0x3f000000000001feull
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

#define QCOW2_SUBCLUSTERS 32u

/* The halves of a bitmap: which subclusters the cluster holds, and which read as zero. */
#define QCOW2_BITMAP_HELD 0xffffffffull
#define QCOW2_BITMAP_ZERO (QCOW2_BITMAP_HELD << 32)

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* reads from the backing file */
    QCOW2_ZEROES,      /* reads as zero */
    QCOW2_NORMAL,
    QCOW2_PACKED, /* compressed */
};

/*
 * A decoded L2 entry. In an image with subclusters `kind` says only whether the cluster has space;
 * `bitmap` says what each subcluster shows.
 */
struct qcow2_entry {
    uint64_t entry;
    uint64_t bitmap; /* of subclusters; 0 without extended L2 entries */
    enum qcow2_kind kind;
    bool has_space; /* there is a `host`: NORMAL and PACKED always, ZEROES sometimes */
    uint64_t host;
    uint64_t len; /* of the space at `host` */
};

static inline bool qcow2_has_subclusters(const struct qcow2 *q)
{
    return q->l2_entry_bits == 4;
}

static inline uint64_t qcow2_unit_size(const struct qcow2 *q)
{
    return qcow2_has_subclusters(q) ? q->cluster_size / QCOW2_SUBCLUSTERS : q->cluster_size;
}

/* The entry has space that nothing else refers to, so that space may be written in place. */
static inline bool qcow2_has_own_space(const struct qcow2_entry *entry)
{
    return entry->kind != QCOW2_PACKED && entry->has_space && (entry->entry & QCOW2_COPIED);
}

static inline unsigned qcow2_l2_entries(const struct qcow2 *q)
{
    return 1u << q->l2_bits;
}

/*
 * Decode entry `i` of `table`, a whole L2 table or a slice of one. Nothing is checked, so the
 * result may have any `host`.
 */
struct qcow2_entry qcow2_entry_decode(const struct qcow2 *q, const uint8_t *table, unsigned i);

/* The entry for compressed data at [host, host + len). */
uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len);

/*
 * The compressed data that `entry` points at: [*ret_host, *ret_host + *ret_len). The range ends
 * where a sector ends; the data may end before.
 */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len);

/* Compressed data must begin below this offset, since its entry has no bits for higher ones. */
uint64_t qcow2_packed_max(const struct qcow2 *q);

#endif
