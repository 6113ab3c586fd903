/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/packed_read.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/format/zip.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/map.h"

/*
 * Inflated clusters are kept for small sequential reads: 2 MiB of them, but at least 4, for as many
 * readers, and at most 64, so that looking through them costs little.
 */
#define INFLATED_BYTES (2u << 20)
#define INFLATED_MIN 4u
#define INFLATED_MAX 64u

/* The most of all images on top of each other; each keeps one cluster all the same. */
#define INFLATED_BYTES_CHAIN (32u << 20)

/*
 * The most that is read and inflated together: enough to make handing it to a thread worth while.
 */
#define ROW_MAX 64ull
#define ROW_BYTES (512u << 10)

/* Inflating a byte takes about as long as copying so many (co_turn). */
#define INFLATE_COST 4u

/* ---- reading and inflating ------------------------------------------------------------------- */

/* Compressed clusters that are neighbours on the disk. */
struct row {
    struct qcow2 *q;
    unsigned n;
    uint64_t entries[ROW_MAX];
    uint64_t host;   /* where the first of them begins in the file */
    uint64_t end;    /* where the last of them ends in the file */
    uint64_t sum;    /* the sum of their lengths */
    uint8_t *packed; /* their compressed data */
    bool together;   /* `packed` is the file from `host` to `end`; else only the clusters */
    uint8_t *dst;
    int result;
};

static void row_add(struct row *row, uint64_t entry)
{
    uint64_t host;
    uint64_t len;

    qcow2_packed_range(row->q, entry, &host, &len);
    row->host = row->n ? min_u64(row->host, host) : host;
    row->end = max_u64(row->end, host + len);
    row->sum += len;
    row->entries[row->n++] = entry;
}

/* Read the row: in one piece, unless more lies between the clusters than in them. */
static int row_read(struct row *row)
{
    uint64_t span = row->end - row->host;
    uint8_t *data;
    int r = 0;

    row->together = span <= 2 * row->sum;
    data = malloc(max_u64(row->together ? span : row->sum, 1));
    row->packed = data;
    if (!data)
        return -ENOMEM;
    if (row->together)
        return qcow2_packed_data_read(row->q, row->host, data, span);
    for (unsigned i = 0; r == 0 && i < row->n; i++) {
        uint64_t host;
        uint64_t len;

        qcow2_packed_range(row->q, row->entries[i], &host, &len);
        r = qcow2_packed_data_read(row->q, host, data, len);
        data += len;
    }
    return r;
}

/*
 * To make an inflater may take as long as to inflate a cluster, so as many are kept as threads
 * usually inflate at a time. On any thread.
 */
static int take_inflater(struct qcow2 *q, struct qcow2_inflater **ret_inflater)
{
    for (unsigned i = 0; i < ARRAY_SIZE(q->inflaters); i++) {
        *ret_inflater = __atomic_exchange_n(&q->inflaters[i], NULL, __ATOMIC_ACQUIRE);
        if (*ret_inflater)
            return 0;
    }
    return qcow2_inflater_new(q->compression, ret_inflater);
}

static void put_inflater(struct qcow2 *q, struct qcow2_inflater *inflater)
{
    bool keep = inflater && qcow2_inflater_is_small(inflater);

    for (unsigned i = 0; keep && inflater && i < ARRAY_SIZE(q->inflaters); i++)
        inflater = __atomic_exchange_n(&q->inflaters[i], inflater, __ATOMIC_ACQ_REL);
    qcow2_inflater_free(inflater);
}

/* Inflate the row. Runs on any thread. */
static void row_inflate(void *opaque)
{
    struct row *row = opaque;
    struct qcow2 *q = row->q;
    struct qcow2_inflater *inflater = NULL;
    const uint8_t *next = row->packed;

    row->result = take_inflater(q, &inflater);
    for (unsigned i = 0; row->result == 0 && i < row->n; i++) {
        const uint8_t *data;
        uint64_t host;
        uint64_t len;

        qcow2_packed_range(q, row->entries[i], &host, &len);
        data = row->together ? row->packed + (host - row->host) : next;
        next += len;
        row->result = qcow2_inflate(inflater, data, len, row->dst + ((size_t)i << q->cluster_bits),
                                    q->cluster_size);
    }
    put_inflater(q, inflater);
}

static int row_fill(struct row *row, uint8_t *dst)
{
    int r = co_turn(INFLATE_COST * ((uint64_t)row->n << row->q->cluster_bits));

    if (r == 0)
        r = row_read(row);
    if (r == 0) {
        row->dst = dst;
        block_compute(&row->q->block, row_inflate, row);
        r = row->result;
    }
    free(row->packed);
    return r;
}

/* Read the compressed cluster that `entry` points at, and inflate it to `data`. */
static int read_and_inflate(struct qcow2 *q, uint64_t entry, uint8_t *data)
{
    struct row row = {.q = q};

    row_add(&row, entry);
    return row_fill(&row, data);
}

/* ---- inflated clusters ----------------------------------------------------------------------- */

/*
 * An inflated cluster. Its key is its place on the guest's disk, since requests that read or
 * replace the cluster hold that range. So space of the file that is used again cannot be mistaken
 * for what was there before.
 */
struct slot {
    uint64_t off;
    uint64_t entry; /* its L2 entry; 0: the slot is free */
    uint64_t used;  /* the number of its last use */
    bool loading;
    uint8_t *data;
};

struct qcow2_inflated {
    uint64_t uses;
    struct co_queue changed; /* woken when a slot was filled */
    unsigned n;
    struct slot slots[];
};

static unsigned count_slots(const struct qcow2 *q)
{
    uint64_t n = max_u64(min_u64(INFLATED_BYTES >> q->cluster_bits, INFLATED_MAX), INFLATED_MIN);

    if (q->layers > 0)
        n = min_u64(n, max_u64((INFLATED_BYTES_CHAIN / q->layers) >> q->cluster_bits, 1));
    return (unsigned)n;
}

static int make_slots(struct qcow2 *q)
{
    unsigned n = count_slots(q);

    if (q->inflated)
        return 0;
    q->inflated = calloc(1, sizeof(*q->inflated) + n * sizeof(struct slot));
    if (!q->inflated)
        return -ENOMEM;
    q->inflated->n = n;
    co_queue_init(&q->inflated->changed);
    return 0;
}

/* The slot of the cluster at `off`; NULL if there is none. */
static struct slot *find_slot(const struct qcow2 *q, uint64_t off)
{
    struct qcow2_inflated *inflated = q->inflated;

    for (unsigned i = 0; inflated && i < inflated->n; i++)
        if (inflated->slots[i].entry && inflated->slots[i].off == off)
            return &inflated->slots[i];
    return NULL;
}

/* The slot that was not used for longest; NULL if all are being filled. */
static struct slot *find_victim(struct qcow2_inflated *inflated)
{
    struct slot *victim = NULL;

    for (unsigned i = 0; i < inflated->n; i++) {
        struct slot *slot = &inflated->slots[i];

        if (slot->loading)
            continue;
        if (!slot->entry)
            return slot;
        if (!victim || slot->used < victim->used)
            victim = slot;
    }
    return victim;
}

static int fill_slot(struct qcow2 *q, struct slot *slot, uint64_t off, uint64_t entry)
{
    int r = -ENOMEM;

    if (!slot->data)
        slot->data = malloc(q->cluster_size);
    slot->off = off;
    slot->entry = entry;
    slot->loading = true;
    if (slot->data)
        r = read_and_inflate(q, entry, slot->data);
    slot->loading = false;
    if (r < 0)
        slot->entry = 0;
    co_queue_wake_all(&q->inflated->changed);
    return r;
}

/* Get the slot of a cluster, filling it if need be; it is valid until the next wait. */
static int get_slot(struct qcow2 *q, uint64_t off, uint64_t entry, struct slot **ret_slot)
{
    int r = make_slots(q);

    while (r == 0) {
        struct slot *slot = find_slot(q, off);

        if (slot && !slot->loading && slot->entry == entry) {
            slot->used = ++q->inflated->uses;
            *ret_slot = slot;
            return 0;
        }
        if (!slot)
            slot = find_victim(q->inflated);
        if (!slot || slot->loading)
            co_queue_wait(&q->inflated->changed);
        else
            r = fill_slot(q, slot, off, entry);
    }
    return r;
}

/* ---- requests -------------------------------------------------------------------------------- */

static int find_row(struct qcow2 *q, uint64_t off, uint64_t len, struct row *ret_row)
{
    *ret_row = (struct row){.q = q};
    for (uint64_t at = 0; at < len; at += q->cluster_size) {
        struct qcow2_extent extent;
        int r = qcow2_map(q, off + at, q->cluster_size, &extent);

        if (r < 0)
            return r;
        if (extent.kind != QCOW2_PACKED)
            return -EIO; /* another program writes to the image, which was opened to be shared */
        row_add(ret_row, extent.entry);
    }
    return 0;
}

/*
 * Read whole clusters. A reader of whole clusters seldom reads them again, so they are not kept,
 * and are inflated straight into its memory if that is one piece.
 */
static int read_whole(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov)
{
    struct row row;
    uint8_t *data;
    int r = find_row(q, off, len, &row);

    if (r < 0)
        return r;
    data = niov == 1 ? iov->iov_base : malloc(len);
    r = data ? row_fill(&row, data) : -ENOMEM;
    if (niov == 1)
        return r;
    if (r == 0)
        iov_from_buf(iov, niov, 0, data, len);
    free(data);
    return r;
}

void qcow2_packed_lengthen(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_extent *extent)
{
    struct qcow2_extent next;

    if (extent->len < q->cluster_size)
        return;
    len = min_u64(len, min_u64(ROW_MAX << q->cluster_bits, max_u64(ROW_BYTES, q->cluster_size)));
    while (extent->len + q->cluster_size <= len &&
           qcow2_map(q, off + extent->len, q->cluster_size, &next) == 0 &&
           next.kind == QCOW2_PACKED)
        extent->len += q->cluster_size;
}

int qcow2_packed_read(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t len,
                      const struct iovec *iov, unsigned niov)
{
    uint64_t in_cluster = off & (q->cluster_size - 1);
    struct slot *slot;
    int r;

    if (len > q->cluster_size || (len == q->cluster_size && !find_slot(q, off)))
        return read_whole(q, off, len, iov, niov);
    r = get_slot(q, off - in_cluster, entry, &slot);
    if (r == 0)
        iov_from_buf(iov, niov, 0, slot->data + in_cluster, len);
    return r;
}

void qcow2_packed_changed(struct qcow2 *q, uint64_t off)
{
    struct slot *slot = find_slot(q, off);

    if (slot)
        slot->entry = 0;
}

void qcow2_packed_forget(struct qcow2 *q)
{
    for (unsigned i = 0; q->inflated && i < q->inflated->n; i++)
        free(q->inflated->slots[i].data);
    free(q->inflated);
    q->inflated = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(q->inflaters); i++) {
        qcow2_inflater_free(q->inflaters[i]);
        q->inflaters[i] = NULL;
    }
}
