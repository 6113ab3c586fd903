/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L2 tables and refcount blocks in memory, in slices of at most 4 KiB, so that images with big
 * clusters need neither memory nor bandwidth for the parts of tables that are not in use.
 */
#ifndef MINIVMM_BLOCK_QCOW2_META_CACHE_H
#define MINIVMM_BLOCK_QCOW2_META_CACHE_H

#include "block/qcow2/qcow2.h"

/* A piece of an L2 table or refcount block as it is in the file. */
struct qcow2_slice {
    uint64_t host;
    enum qcow2_meta kind;
    bool loading;
    bool dirty;
    bool stale; /* could not be read, and is not in the hash any more */
    unsigned pins;
    struct co_queue loaded;
    struct qcow2_slice *hash_next;
    struct list lru;  /* least recently used first */
    struct list mark; /* in the list of dirty slices of its kind */
    uint8_t data[];
};

/* Start with no slice, bounded by what the disk's L2 tables need. Returns 0 or -ENOMEM. */
int qcow2_cache_init(struct qcow2 *q) MUST_CHECK;

/* Free all slices, of which none is pinned; changes in dirty ones are lost. */
void qcow2_cache_done(struct qcow2 *q);

/* Drop all slices but the few that were used last; pinned and dirty ones stay too. */
void qcow2_cache_trim(struct qcow2 *q);

/* Lower the bound: the image is one of q->layers on top of each other, which share memory. */
void qcow2_cache_share(struct qcow2 *q);

/*
 * Get and pin the slice at `host` (slice-aligned), reading it if need be; to be put with
 * qcow2_slice_put. Returns 0; -EIO if it lies outside the file or is in memory as another kind of
 * metadata; or another -errno.
 */
int qcow2_slice_get(struct qcow2 *q, enum qcow2_meta kind, uint64_t host,
                    struct qcow2_slice **ret_slice) MUST_CHECK;

/* Unpin the slice, which may be dropped now unless it is dirty. */
void qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *slice);

/* The slice if it is in memory, else NULL. It is not pinned, so it is valid until the next wait. */
const struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t host);

/* The data of the slice was changed: the next flush writes it (meta/flush). */
void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *slice);

/*
 * Get the dirty slices of a kind, sorted by `host`; they are pinned, and no longer dirty. The
 * caller puts each of them and frees the array. Returns 0 or -ENOMEM.
 */
int qcow2_cache_take_dirty(struct qcow2 *q, enum qcow2_meta kind, struct qcow2_slice ***ret_slices,
                           unsigned *ret_n) MUST_CHECK;

/* log2 of the refcounts in a slice. */
static inline unsigned qcow2_slice_refcount_bits(const struct qcow2 *q)
{
    return q->slice_bits + 3 - q->refcount_order;
}

static inline uint64_t qcow2_slice_size(const struct qcow2 *q)
{
    return 1ull << q->slice_bits;
}

#endif
