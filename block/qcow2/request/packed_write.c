/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed data is packed without regard to sectors or clusters of the file:
 *
 *     host clusters:   |            1            |            2            |
 *     compressed:      |<-- A -->|<--- B --->|<---- C ---->|<- D ->| ...free
 *
 * Each cluster of the file is counted once for every compressed cluster that touches it: in this
 * picture, cluster 1 three times and cluster 2 twice.
 */
#include "block/qcow2/request/packed_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/zip.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/meta/flush.h"
#include "block/qcow2/meta/places.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/bitmap_note.h"
#include "block/qcow2/request/prepare.h"
#include "block/qcow2/request/write.h"

/*
 * The clusters of a request, to be compressed and written. In `data` their compressed data follows
 * each other, as it does in the file wherever there is room after what was packed last.
 */
struct packing {
    struct qcow2 *q;
    uint64_t off;
    uint64_t len;
    const struct iovec *iov;
    unsigned niov;
    unsigned n;          /* clusters */
    struct packed *each; /* one for each cluster */
    uint8_t *data;
    int result; /* what compressing has returned */
};

struct packed {
    uint8_t *data;
    size_t len; /* 0: the cluster does not shrink by a byte, and is written as it is */
    uint64_t host;
};

/* A whole cluster of the caller's data in one piece: its own memory, or a copy in `buf`. */
static const uint8_t *get_cluster(const struct packing *packing, unsigned i, uint8_t *buf)
{
    size_t size = packing->q->cluster_size;
    uint64_t at = (uint64_t)i * size;
    size_t n = (size_t)min_u64(packing->len - at, size);
    struct iovec one;

    if (n == size && iov_slice(packing->iov, packing->niov, at, n, &one, 1) == 1)
        return one.iov_base;
    iov_to_buf(packing->iov, packing->niov, at, buf, n);
    memset(buf + n, 0, size - n); /* past the end of the disk */
    return buf;
}

static int deflate_clusters(struct packing *packing, struct qcow2_deflater *deflater, uint8_t *buf)
{
    size_t size = packing->q->cluster_size;
    uint8_t *data = packing->data;

    for (unsigned i = 0; i < packing->n; i++) {
        struct packed *packed = &packing->each[i];
        int r = qcow2_deflate(deflater, get_cluster(packing, i, buf), size, data, size - 1,
                              &packed->len);

        if (r == -ENOSPC)
            packed->len = 0;
        else if (r < 0)
            return r;
        packed->data = data;
        data += packed->len;
    }
    return 0;
}

/* Compress the clusters. Runs on any thread. */
static void compress(void *opaque)
{
    struct packing *packing = opaque;
    struct qcow2_deflater *deflater = NULL;
    uint8_t *buf = malloc(packing->q->cluster_size);
    int r = buf ? qcow2_deflater_new(packing->q->compression, &deflater) : -ENOMEM;

    if (r == 0)
        r = deflate_clusters(packing, deflater, buf);
    qcow2_deflater_free(deflater);
    free(buf);
    packing->result = r;
}

static uint64_t off_of(const struct packing *packing, unsigned i)
{
    return packing->off + ((uint64_t)i << packing->q->cluster_bits);
}

/* Take space for the compressed clusters; the first *ret_n have it, also after a failure. */
static int place(struct packing *packing, unsigned *ret_n)
{
    unsigned i;
    int r = 0;

    for (i = 0; r == 0 && i < packing->n; i++) {
        struct packed *packed = &packing->each[i];

        if (packed->len > 0)
            r = qcow2_alloc_packed_begin(packing->q, off_of(packing, i), packed->len,
                                         &packed->host);
    }
    *ret_n = r == 0 ? i : i - 1;
    return r;
}

/* Write the first `n` clusters that are compressed; adjacent ones are one write of the file. */
static int write_packed(const struct packing *packing, unsigned n)
{
    struct qcow2 *q = packing->q;
    uint64_t host = 0;
    uint8_t *data = NULL;
    size_t len = 0;
    int r = 0;

    for (unsigned i = 0; r == 0 && i <= n; i++) {
        const struct packed *next = i < n ? &packing->each[i] : NULL;

        if (next && next->len == 0)
            continue;
        if (len > 0 && (!next || next->host != host + len)) {
            r = qcow2_check_data_range(q, host, len);
            if (r == 0)
                r = qcow2_packed_data_write(q, host, data, len);
            len = 0;
        }
        if (next && len == 0) {
            host = next->host;
            data = next->data;
        }
        len += next ? next->len : 0;
    }
    return r;
}

/*
 * Let L2 entries point at the first `n` clusters, whose data is in place. From a failure on, that
 * of `r` or one here, give the space back instead.
 */
static int finish_packed(const struct packing *packing, unsigned n, int r)
{
    for (unsigned i = 0; i < n; i++) {
        const struct packed *packed = &packing->each[i];

        if (packed->len == 0)
            continue;
        if (r == 0)
            r = qcow2_alloc_packed_finish(packing->q, off_of(packing, i), packed->host,
                                          packed->len);
        if (r < 0)
            qcow2_alloc_packed_abort(packing->q, packed->host, packed->len);
    }
    return r;
}

/* Whose turn it is to take space: each compressed write has a ticket. */
struct qcow2_packing {
    uint64_t begun;
    uint64_t placed;
    struct co_queue turn; /* `placed` changed */
};

static int make_turns(struct qcow2 *q)
{
    if (q->packing)
        return 0;
    q->packing = calloc(1, sizeof(*q->packing));
    if (!q->packing)
        return -ENOMEM;
    co_queue_init(&q->packing->turn);
    return 0;
}

/*
 * Requests are compressed in any order. They take space in the order in which they came, so that an
 * image that was written from front to back can be read from front to back.
 */
static void wait_for_turn(struct qcow2 *q, uint64_t ticket)
{
    while (q->packing->placed != ticket)
        co_queue_wait(&q->packing->turn);
}

static void pass_turn(struct qcow2 *q)
{
    q->packing->placed++;
    co_queue_wake_all(&q->packing->turn);
}

static int place_and_write(struct packing *packing)
{
    struct qcow2 *q = packing->q;
    struct range range;
    unsigned n = 0;
    int r = packing->result;

    if (r == 0)
        r = qcow2_bound_dirty(q);
    range_acquire(&q->ranges, &range, packing->off, align_up(packing->len, q->cluster_size), true);
    if (r == 0)
        r = place(packing, &n);
    pass_turn(q);
    if (r == 0)
        r = write_packed(packing, n);
    r = finish_packed(packing, n, r);
    range_release(&q->ranges, &range);
    return r;
}

/* Write the clusters that did not shrink; neighbours are one request. */
static int write_plain(const struct packing *packing)
{
    uint64_t size = packing->q->cluster_size;
    unsigned n;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < packing->n; i += n) {
        uint64_t at = i * size;
        struct iov_part part;

        for (n = 0; i + n < packing->n && packing->each[i + n].len == 0; n++)
            ;
        if (n == 0) {
            n = 1;
            continue;
        }
        r = iov_part_take(&part, packing->iov, packing->niov, at,
                          min_u64(n * size, packing->len - at));
        if (r < 0)
            break;
        r = qcow2_write(&packing->q->block, packing->off + at, min_u64(n * size, packing->len - at),
                        part.iov, part.niov);
        iov_part_done(&part);
    }
    return r;
}

static int write_clusters(struct packing *packing)
{
    struct qcow2 *q = packing->q;
    uint64_t ticket = q->packing->begun++;
    int r;

    block_compute(&q->block, compress, packing);
    wait_for_turn(q, ticket);
    r = place_and_write(packing);
    return r < 0 ? r : write_plain(packing);
}

/*
 * A compressor may read its data more than once, so the data must not change meanwhile. A guest
 * could change it, so the writes of guests are never compressed.
 */
int qcow2_packed_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    struct packing packing = {.q = q, .off = off, .len = len, .iov = iov, .niov = niov};
    int r;

    if (!is_aligned(off, q->cluster_size) ||
        (!is_aligned(len, q->cluster_size) && off + len != block->len))
        return -EINVAL;
    if (qcow2_has_data_file(q))
        return -ENOTSUP; /* an external data file has no place for compressed data */
    r = qcow2_prepare_write(q);
    if (r == 0)
        r = make_turns(q);
    if (r < 0)
        return r;
    qcow2_bitmaps_note(q, off, len);
    packing.n = (unsigned)div_round_up(len, q->cluster_size);
    packing.each = calloc(packing.n, sizeof(*packing.each));
    packing.data = malloc((size_t)packing.n << q->cluster_bits);
    r = packing.each && packing.data ? write_clusters(&packing) : -ENOMEM;
    free(packing.each);
    free(packing.data);
    return r;
}
