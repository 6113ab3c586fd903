/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L2 tables and refcount blocks in memory, in slices of at most 4 KiB: big clusters cost neither
 * memory nor bandwidth for what nobody uses of them.
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
    bool stale; /* could not be read: not in the hash any more */
    unsigned pins;
    struct co_queue loaded;
    struct qcow2_slice *hash_next;
    struct list lru;  /* least recently used first */
    struct list mark; /* in the list of dirty slices of its kind */
    uint8_t data[];
};

int qcow2_cache_init(struct qcow2 *q) MUST_CHECK;
void qcow2_cache_done(struct qcow2 *q);

/* Drop what need not be written, but for the slices used last. */
void qcow2_cache_trim(struct qcow2 *q);

/* The image is one of q->layers on top of each other: they share memory. */
void qcow2_cache_share(struct qcow2 *q);

/*
 * Get and pin the slice at `host` (slice-aligned), reading it if need be. -EIO if it lies outside
 * the file or is in use as another kind of metadata.
 */
int qcow2_slice_get(struct qcow2 *q, enum qcow2_meta kind, uint64_t host,
                    struct qcow2_slice **ret_slice) MUST_CHECK;
void qcow2_slice_put(struct qcow2 *q, struct qcow2_slice *slice);

/* The slice if it is in memory, else NULL. Not pinned: valid until the next wait. */
const struct qcow2_slice *qcow2_slice_peek(struct qcow2 *q, uint64_t host);

void qcow2_slice_dirty(struct qcow2 *q, struct qcow2_slice *slice);

/* The dirty slices of a kind, sorted, pinned and no longer dirty; array to be freed. */
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
