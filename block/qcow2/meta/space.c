/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters are looked for in three places, in this order:
 *
 *   1. slices of refcounts in which a cluster is known to be free: a bit for each slice, set when a
 *      cluster is freed or found in the second place, cleared when the slice turns out to be full
 *   2. refcounts that were not looked at since the image was opened; an allocation reads a piece
 *   3. past the end of the file
 */
#include "block/qcow2/meta/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/refblock.h"
#include "block/qcow2/meta/cache.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"

/* Refcounts looked at for one allocation: 64 KiB of them count 2 GiB of 64 KiB clusters. */
#define SCAN_BYTES (64u << 10)

#define NONE UINT64_MAX

/* ---- slices with free clusters --------------------------------------------------------------- */

static bool reserve(struct qcow2_space *space, uint64_t slice)
{
    size_t nwords = space->nwords ? space->nwords : 16;
    uint64_t *words;

    while (nwords <= slice / 64)
        nwords *= 2;
    if (nwords == space->nwords)
        return true;
    words = realloc(space->free_slices, nwords * sizeof(*words));
    if (!words)
        return false;
    memset(words + space->nwords, 0, (nwords - space->nwords) * sizeof(*words));
    space->free_slices = words;
    space->nwords = nwords;
    return true;
}

void qcow2_space_freed(struct qcow2 *q, uint64_t cluster)
{
    struct qcow2_space *space = &q->space;
    uint64_t slice = cluster >> qcow2_slice_refcount_bits(q);

    /*
     * A cluster past the end of the file needs no hint. Without memory the cluster is found when
     * the image is opened again.
     */
    if (cluster >= qcow2_cluster_of(q, q->file_end) || !reserve(space, slice))
        return;
    space->free_slices[slice / 64] |= 1ull << (slice % 64);
    space->lowest = min_u64(space->lowest, cluster);
}

/* The cluster from which to search the first slice with a free one; NONE if there is none. */
static uint64_t first_known(struct qcow2 *q)
{
    struct qcow2_space *space = &q->space;
    unsigned bits = qcow2_slice_refcount_bits(q);
    uint64_t slice = space->lowest >> bits;
    uint64_t mask = UINT64_MAX << (slice % 64);

    for (uint64_t i = slice / 64; i < space->nwords; i++, mask = UINT64_MAX) {
        uint64_t word = space->free_slices[i] & mask;

        if (!word)
            continue;
        slice = i * 64 + (unsigned)__builtin_ctzll(word);
        space->lowest = max_u64(space->lowest, slice << bits);
        return space->lowest;
    }
    space->lowest = NONE;
    return NONE;
}

/* ---- refcounts that were not looked at ------------------------------------------------------- */

/* Set the bits of slices with free clusters among [first, end), whose refcounts are `counts`. */
static void find_free_slices(struct qcow2 *q, const uint8_t *counts, uint64_t first, uint64_t end)
{
    uint64_t slice_end;

    for (uint64_t at = first; at < end; at = slice_end) {
        uint64_t c = at;

        slice_end = min_u64(end, align_up(at + 1, 1ull << qcow2_slice_refcount_bits(q)));
        while (c < slice_end && qcow2_refblock_get(q->refcount_order, counts, c - first) != 0)
            c++;
        if (c < slice_end)
            qcow2_space_freed(q, c);
    }
}

/*
 * Look at the next piece in the file, at most SCAN_BYTES of one refcount block. Newer refcounts in
 * memory do not matter: when one became zero, the bit of its slice was set; others are seen when
 * the cluster is to be taken.
 */
static int scan_piece(struct qcow2 *q)
{
    struct qcow2_space *space = &q->space;
    uint64_t block = space->seen >> q->refblock_bits;
    uint64_t in_block = space->seen & ((1ull << q->refblock_bits) - 1);
    uint64_t max = min_u64((1ull << q->refblock_bits) - in_block,
                           (uint64_t)SCAN_BYTES * 8 >> q->refcount_order);
    uint64_t end = min_u64(space->seen + max, space->scan_end);
    uint64_t at = (in_block << q->refcount_order) / 8;
    uint64_t len = div_round_up((end - space->seen) << q->refcount_order, 8);
    uint64_t host;
    uint8_t *counts;
    int r;

    host = block < q->reftable.n ? q->reftable.entries[block] & QCOW2_OFF_MASK : 0;
    if (host == 0) { /* no block counts these clusters, so all of them are free */
        qcow2_space_freed(q, space->seen);
        space->seen = min_u64(end, align_up(space->seen + 1, 1ull << qcow2_slice_refcount_bits(q)));
        return 0;
    }
    len = align_up(len, qcow2_slice_size(q));
    counts = malloc(len);
    if (!counts)
        return -ENOMEM;
    r = qcow2_meta_read(q, host + at, counts, len);
    if (r == 0) {
        find_free_slices(q, counts, space->seen, end);
        space->seen = end;
    }
    free(counts);
    return r;
}

/* ---- where to take clusters from ------------------------------------------------------------- */

void qcow2_space_reset(struct qcow2 *q)
{
    struct qcow2_space *space = &q->space;

    free(space->free_slices);
    *space = (struct qcow2_space){.lowest = NONE};
    space->scan_end = qcow2_cluster_of(q, q->file_end);
    space->untaken = space->scan_end;
}

int qcow2_space_find(struct qcow2 *q, uint64_t *ret_cluster)
{
    struct qcow2_space *space = &q->space;
    uint64_t cluster = first_known(q);
    int r = 0;

    if (cluster == NONE && space->seen < space->scan_end) {
        /* Only a file that cannot grow is searched on: it has no space past its end. */
        do {
            r = co_turn(SCAN_BYTES);
            if (r == 0)
                r = scan_piece(q);
            cluster = first_known(q);
        } while (r == 0 && cluster == NONE && space->seen < space->scan_end &&
                 q->block.file->fixed_len);
    }
    *ret_cluster = cluster == NONE ? space->untaken : cluster;
    return r;
}

void qcow2_space_taken(struct qcow2 *q, uint64_t from, uint64_t n, uint64_t next)
{
    struct qcow2_space *space = &q->space;
    uint64_t slice = from >> qcow2_slice_refcount_bits(q);

    if (n == 0 && slice / 64 < space->nwords)
        space->free_slices[slice / 64] &= ~(1ull << (slice % 64));
    if (from == space->lowest)
        space->lowest = next;
    if (from <= space->untaken)
        space->untaken = max_u64(space->untaken, n > 0 || from == space->untaken ? next : 0);
}

void qcow2_space_untaken(struct qcow2 *q, uint64_t first, uint64_t n)
{
    struct qcow2_space *space = &q->space;

    if (first + n == space->untaken && first >= qcow2_cluster_of(q, q->file_end))
        space->untaken = first;
}
