/*
 * Entries of L1 tables, L2 tables and the refcount table as they are in the file ("Cluster mapping"
 * in the specification).
 *
 * Without extended L2 entries a cluster is all of one kind. With them it has 32 subclusters, and
 * the entry a bitmap that says of each: bit n, the cluster holds it; bit 32 + n, it reads as zero;
 * neither, ask the backing file; both at once is an error. A "unit" is the smallest part of the
 * disk with a kind of its own: a subcluster, or a cluster where there are none.
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

/* The half of a bitmap of subclusters that says which have data. The other half: which are zero. */
#define QCOW2_BITMAP_HELD 0xffffffffull
#define QCOW2_BITMAP_ZERO (QCOW2_BITMAP_HELD << 32)

enum qcow2_kind {
    QCOW2_UNALLOCATED, /* reads from the backing file */
    QCOW2_ZEROES,      /* reads as zero */
    QCOW2_NORMAL,
    QCOW2_PACKED, /* compressed */
};

/* An L2 entry. With subclusters `kind` says only whether there is space, not what they show. */
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

/* There is space that nobody else refers to: it may be written in place. */
static inline bool qcow2_has_own_space(const struct qcow2_entry *entry)
{
    return entry->kind != QCOW2_PACKED && entry->has_space && (entry->entry & QCOW2_COPIED);
}

static inline unsigned qcow2_l2_entries(const struct qcow2 *q)
{
    return 1u << q->l2_bits;
}

/*
 * The `i`th entry of `table`, a whole L2 table or a slice of one. Nothing is checked: `host` may be
 * anything.
 */
struct qcow2_entry qcow2_entry_decode(const struct qcow2 *q, const uint8_t *table, unsigned i);

/* The entry for compressed data at [host, host + len). */
uint64_t qcow2_packed_entry(const struct qcow2 *q, uint64_t host, uint64_t len);

/* The compressed data that an entry stands for: [*ret_host, + *ret_len). */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_host,
                        uint64_t *ret_len);

/* No offset of compressed data reaches this. */
uint64_t qcow2_packed_max(const struct qcow2 *q);

#endif
