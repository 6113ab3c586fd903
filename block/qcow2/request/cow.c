/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/request/cow.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/format/entry.h"
#include "block/qcow2/meta/file.h"
#include "block/qcow2/qcow2.h"
#include "block/qcow2/request/ahead.h"
#include "block/qcow2/request/alloc.h"
#include "block/qcow2/request/extents.h"
#include "block/qcow2/request/l2.h"
#include "block/qcow2/request/map.h"

/*
 * Head and tail of a cluster are read together with what lies between them if that is at most this:
 * a second request to the host costs more than reading so many bytes that are not needed.
 */
#define COW_READ_THROUGH (16u << 10)

/* The space of zero clusters that follow a write is zeroed with it, up to this length. */
#define ZERO_AHEAD (1u << 20)

/* Memory for direct I/O. */
#define COW_ALIGN 4096u

enum fill {
    FILL_NOTHING, /* it is empty, or its space reads as zero already */
    FILL_ZEROES,  /* it is to be zero */
    FILL_COPY,    /* it is to be what the disk shows there now */
};

/*
 * A write into newly allocated space:
 *
 *     start       off             off + len      end
 *       |<- head ->|<-- the guest's -->|<- tail ->|        start, end: of whole units
 */
struct cow {
    uint64_t start;
    uint64_t off;
    uint64_t len;
    uint64_t end;
    uint64_t host; /* where `start` is in the file */
    bool fresh;    /* the space reads as zero */
    enum fill head;
    enum fill tail;
    uint8_t *head_buf;
    uint8_t *tail_buf;
    void *buf; /* head_buf and tail_buf point into it; to be freed */
};

static uint64_t head_len(const struct cow *cow)
{
    return cow->off - cow->start;
}

static uint64_t tail_off(const struct cow *cow)
{
    return cow->off + cow->len;
}

static uint64_t tail_len(const struct cow *cow)
{
    return cow->end - tail_off(cow);
}

static uint64_t filled_len(const struct cow *cow)
{
    return (cow->head != FILL_NOTHING ? head_len(cow) : 0) +
           (cow->tail != FILL_NOTHING ? tail_len(cow) : 0);
}

/* Does the write cover [start, end), head and tail included? */
static bool fills_all(const struct cow *cow)
{
    return (cow->head != FILL_NOTHING || head_len(cow) == 0) &&
           (cow->tail != FILL_NOTHING || tail_len(cow) == 0);
}

/* ---- what is to be filled -------------------------------------------------------------------- */

static enum fill plan_fill(struct qcow2 *q, const struct cow *cow, uint64_t off, uint64_t len)
{
    struct block_stats *stats = &q->block.stats;
    /* The last cluster may go on past the end of the disk, where the guest sees nothing. */
    uint64_t visible = off < q->block.len ? min_u64(len, q->block.len - off) : 0;

    if (len == 0)
        return FILL_NOTHING;
    if ((q->block.without & BLOCK_WITHOUT_ZERO_COW) || !qcow2_reads_zero(q, off, visible)) {
        stats->cow_copied_bytes += len;
        return FILL_COPY;
    }
    if (!cow->fresh && !qcow2_data_is_hole(q, cow->host + (off - cow->start), len)) {
        stats->cow_zeroed_bytes += len;
        return FILL_ZEROES;
    }
    stats->cow_saved_bytes += len;
    return FILL_NOTHING;
}

/* ---- zeroes ---------------------------------------------------------------------------------- */

/*
 * Set *ret_len to how many bytes from `off` on, at most `max`, are whole clusters that read as zero
 * and have space of their own at `host`.
 */
static int find_zero_space(struct qcow2 *q, uint64_t off, uint64_t max, uint64_t host,
                           uint64_t *ret_len)
{
    struct qcow2_extent extent;
    int r = qcow2_map(q, off, max, &extent);
    bool found = r == 0 && extent.kind == QCOW2_ZEROES && extent.copied && extent.host == host;

    *ret_len = found ? align_down(extent.len, q->cluster_size) : 0;
    return r;
}

/*
 * Zero the space of a whole cluster, and with it that of the zero clusters after it. For a guest
 * that writes from front to back the file system is asked once for many clusters: the next writes
 * find holes there.
 */
static int zero_cluster_and_next(struct qcow2 *q, const struct cow *cow)
{
    uint64_t len = cow->end - cow->start;
    uint64_t ahead = min_u64(ZERO_AHEAD, qcow2_slice_rest(q, cow->start) - len);
    struct range range;
    int r;

    if (!is_aligned(cow->end, q->cluster_size) || ahead == 0 || cow->end >= q->block.len ||
        !range_try_acquire(&q->ranges, &range, cow->end, ahead, true))
        return qcow2_data_zero_fast(q, cow->host, len, false);
    r = find_zero_space(q, cow->end, ahead, cow->host + len, &ahead);
    if (r == 0)
        r = qcow2_data_zero_fast(q, cow->host, len + ahead, false);
    range_release(&q->ranges, &range);
    return r;
}

/* Let the file system zero head and tail, if they are to be zero and it can. */
static int zero_fast(struct qcow2 *q, struct cow *cow)
{
    bool one_cluster = cow->end - cow->start <= q->cluster_size;
    int r = 0;

    if (q->no_fast_zero || (cow->head != FILL_ZEROES && cow->tail != FILL_ZEROES))
        return 0;
    if (one_cluster && (cow->head == FILL_ZEROES || head_len(cow) == 0) &&
        (cow->tail == FILL_ZEROES || tail_len(cow) == 0)) {
        r = zero_cluster_and_next(q, cow);
    } else {
        if (cow->head == FILL_ZEROES)
            r = qcow2_data_zero_fast(q, cow->host, head_len(cow), false);
        if (r == 0 && cow->tail == FILL_ZEROES)
            r = qcow2_data_zero_fast(q, cow->host + (tail_off(cow) - cow->start), tail_len(cow),
                                     false);
    }
    if (r == -EOPNOTSUPP) {
        q->no_fast_zero = true; /* do not ask again */
        return 0;
    }
    if (r == 0) {
        cow->head = cow->head == FILL_ZEROES ? FILL_NOTHING : cow->head;
        cow->tail = cow->tail == FILL_ZEROES ? FILL_NOTHING : cow->tail;
    }
    return r;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static int read_piece(struct qcow2 *q, uint64_t off, uint64_t len, uint8_t *buf)
{
    struct iovec iov = {buf, len};

    return qcow2_read_extents(q, off, len, &iov, 1);
}

/*
 * Read what is to be copied: all of [start, end) if what is not needed of it is short. Then there
 * is one request instead of two, and those for neighbouring clusters are adjacent, so that the host
 * merges them.
 */
static int read_old(struct qcow2 *q, struct cow *cow)
{
    uint64_t head = cow->head == FILL_COPY ? head_len(cow) : 0;
    uint64_t tail = cow->tail == FILL_COPY ? tail_len(cow) : 0;
    bool merge = !(q->block.without & BLOCK_WITHOUT_MERGE_COW);
    bool together = merge && cow->end - cow->start - head - tail <= COW_READ_THROUGH;
    uint64_t len = together ? cow->end - cow->start : head + tail;
    int r = 0;

    if (head + tail == 0)
        return 0;
    cow->buf = aligned_alloc(COW_ALIGN, align_up(len, COW_ALIGN));
    if (!cow->buf)
        return -ENOMEM;
    cow->head_buf = cow->buf;
    cow->tail_buf = cow->head_buf + (together ? tail_off(cow) - cow->start : head);
    if (together && qcow2_ahead_read(q, cow->start, len, cow->buf))
        return 0;
    if (together)
        return read_piece(q, cow->start, len, cow->buf);
    if (head)
        r = read_piece(q, cow->start, head, cow->head_buf);
    if (r == 0 && tail)
        r = read_piece(q, tail_off(cow), tail, cow->tail_buf);
    return r;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Append a head or tail to the vector; returns the new number of elements. */
static unsigned add_fill(struct iovec *iov, unsigned n, enum fill fill, uint8_t *buf, uint64_t len)
{
    if (fill == FILL_COPY)
        iov[n++] = (struct iovec){buf, len};
    while (fill == FILL_ZEROES && len > 0) {
        uint64_t piece = min_u64(len, FILE_ZEROES_LEN);

        iov[n++] = (struct iovec){(void *)(uintptr_t)file_zeroes, piece};
        len -= piece;
    }
    return n;
}

/* Write head, the guest's data and tail in one write. */
static int write_merged(struct qcow2 *q, const struct cow *cow, const struct qcow2_io *io)
{
    uint64_t zero_iovs = 2 * div_round_up(q->cluster_size, FILE_ZEROES_LEN);
    uint64_t host = cow->host + (cow->head == FILL_NOTHING ? head_len(cow) : 0);
    struct iovec *merged = malloc((io->niov + zero_iovs) * sizeof(*merged));
    unsigned n;
    int r;

    if (!merged)
        return -ENOMEM;
    n = add_fill(merged, 0, cow->head, cow->head_buf, head_len(cow));
    r = iov_slice(io->iov, io->niov, io->iov_off, cow->len, merged + n, io->niov);
    if (r >= 0) {
        n = add_fill(merged, n + (unsigned)r, cow->tail, cow->tail_buf, tail_len(cow));
        r = n > 0 ? qcow2_data_writev(q, host, merged, n) : 0;
    }
    free(merged);
    return r;
}

/* Do in three writes what write_merged does in one, to measure what that gains. */
static int write_unmerged(struct qcow2 *q, const struct cow *cow, const struct qcow2_io *io)
{
    const struct cow pieces[] = {
        {.start = cow->start,
         .off = cow->off,
         .end = cow->off,
         .host = cow->host,
         .head = cow->head,
         .head_buf = cow->head_buf},
        {.start = cow->off,
         .off = cow->off,
         .len = cow->len,
         .end = tail_off(cow),
         .host = cow->host + head_len(cow)},
        {.start = tail_off(cow),
         .off = tail_off(cow),
         .end = cow->end,
         .host = cow->host + (tail_off(cow) - cow->start),
         .tail = cow->tail,
         .tail_buf = cow->tail_buf},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(pieces); i++)
        r = write_merged(q, &pieces[i], io);
    return r;
}

/* Write head, data and tail; meanwhile read ahead what the next cluster will have to copy. */
static int write_filled(struct qcow2 *q, const struct cow *cow, const struct qcow2_io *io)
{
    struct qcow2_prefetch prefetch;
    int r;

    if (cow->fresh && fills_all(cow))
        qcow2_file_reserve(q, cow->host, cow->end - cow->start);
    qcow2_ahead_begin(q, &prefetch);
    r = (q->block.without & BLOCK_WITHOUT_MERGE_COW) ? write_unmerged(q, cow, io)
                                                     : write_merged(q, cow, io);
    qcow2_ahead_end(&prefetch);
    return r;
}

int qcow2_cow_write(struct qcow2 *q, const struct qcow2_alloc *alloc, const struct qcow2_io *io)
{
    struct cow cow = {
        .start = alloc->start,
        .off = io->off,
        .len = io->len,
        .end = alloc->end,
        .host = alloc->host + qcow2_in_cluster(q, alloc->start),
        .fresh = alloc->fresh,
    };
    int r;

    cow.head = plan_fill(q, &cow, cow.start, head_len(&cow));
    cow.tail = plan_fill(q, &cow, tail_off(&cow), tail_len(&cow));
    r = zero_fast(q, &cow);
    if (r == 0)
        r = co_turn(filled_len(&cow)); /* in large clusters much more than the guest's data */
    if (r == 0)
        r = read_old(q, &cow);
    if (r == 0)
        r = write_filled(q, &cow, io);
    free(cow.buf);
    return r;
}
