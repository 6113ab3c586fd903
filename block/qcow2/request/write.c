/*
 * Requests on qcow2 images, as the guest made them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/image/snapshot.h"
#include "block/qcow2/meta/bitmap_dir.h"
#include "block/qcow2/request/l2.h"

/*
 * Head and tail of a cluster are read together with what lies between them if that is at most this:
 * one request of the host costs more than copying so much too many.
 */
#define COW_READ_THROUGH (16u << 10)

/* Clusters that are zero and in use before are zeroed so far ahead of a write. */
#define ZERO_AHEAD (1u << 20)

/* Clearing the entries of a slice takes about as long as copying so many bytes (co_turn). */
#define CLEAR_COST (64u << 10)

/* Memory for direct I/O. */
#define COW_ALIGN 4096u

/* ---- reading --------------------------------------------------------------------------------- */

static int qcow2_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, off, len, false);
    r = qcow2_read_parts(q, off, len, iov, niov);
    range_release(&q->ranges, &range);
    return r;
}

/* ---- writing into new clusters --------------------------------------------------------------- */

enum fill {
    FILL_NOTHING, /* empty, or it reads as zero already */
    FILL_ZEROES,  /* written from a buffer of zeroes */
    FILL_COPY,    /* what the guest sees there now */
};

/*
 * A write into newly allocated space:
 *
 *     start       off             off + len      end
 *       |<- head ->|<-- the guest's -->|<- tail ->|        start, end: whole (sub)clusters
 */
struct cow {
    uint64_t start;
    uint64_t off;
    uint64_t len;
    uint64_t end;
    uint64_t host; /* of start */
    bool fresh;    /* the space reads as zero */
    enum fill head;
    enum fill tail;
    uint8_t *head_buf;
    uint8_t *tail_buf;
    void *buf; /* what the two point into; to be freed */
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

/* Nothing of the clusters is left as it is. */
static bool fills_all(const struct cow *cow)
{
    return (cow->head != FILL_NOTHING || head_len(cow) == 0) &&
           (cow->tail != FILL_NOTHING || tail_len(cow) == 0);
}

static enum fill plan_part(struct qcow2 *q, const struct cow *cow, uint64_t off, uint64_t len)
{
    struct block_stats *stats = &q->block.stats;
    /* Clusters at the end of the disk go on behind it, where nothing can be seen. */
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

/*
 * How much of [off, off + max) are clusters that read as zero and have space of their own at
 * `host`.
 */
static int find_zero_space(struct qcow2 *q, uint64_t off, uint64_t max, uint64_t host,
                           uint64_t *ret_len)
{
    struct qcow2_extent extent;
    int r = qcow2_map(q, off, max, false, &extent);
    bool found = r == 0 && extent.kind == QCOW2_ZEROES && extent.copied && extent.host == host;

    *ret_len = found ? align_down(extent.len, q->cluster_size) : 0;
    return r;
}

/*
 * Zero the host space of a whole cluster, and of those behind it that are to read as zero in space
 * of their own: who writes from front to back asks the file system once for many clusters, which
 * are found to be holes later.
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

/* Zero head and tail by asking the file system, where that is possible. */
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

static int read_part(struct qcow2 *q, uint64_t off, uint64_t len, uint8_t *buf)
{
    struct iovec iov = {buf, len};

    return qcow2_read_parts(q, off, len, &iov, 1);
}

/*
 * Read what is to be copied: whole clusters if the part that is not needed is short. That makes one
 * request of two, and the requests of neighbouring clusters neighbours, which the host merges.
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
        return read_part(q, cow->start, len, cow->buf);
    if (head)
        r = read_part(q, cow->start, head, cow->head_buf);
    if (r == 0 && tail)
        r = read_part(q, tail_off(cow), tail, cow->tail_buf);
    return r;
}

/* Append a head or tail to the vector; returns the new number of elements. */
static unsigned add_part(struct iovec *iov, unsigned n, enum fill fill, uint8_t *buf, uint64_t len)
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

/* Head, the guest's data and tail leave in one write. */
static int write_merged(struct qcow2 *q, const struct cow *cow, uint64_t iov_off,
                        const struct iovec *iov, unsigned niov)
{
    uint64_t zero_iovs = 2 * div_round_up(q->cluster_size, FILE_ZEROES_LEN);
    uint64_t host = cow->host + (cow->head == FILL_NOTHING ? head_len(cow) : 0);
    struct iovec *merged = malloc((niov + zero_iovs) * sizeof(*merged));
    unsigned n;
    int r;

    if (!merged)
        return -ENOMEM;
    n = add_part(merged, 0, cow->head, cow->head_buf, head_len(cow));
    r = iov_slice(iov, niov, iov_off, cow->len, merged + n, niov);
    if (r >= 0) {
        n = add_part(merged, n + (unsigned)r, cow->tail, cow->tail_buf, tail_len(cow));
        r = n > 0 ? qcow2_data_writev(q, host, merged, n) : 0;
    }
    free(merged);
    return r;
}

/* What write_merged does in one write, in three: to be measured against it. */
static int write_unmerged(struct qcow2 *q, const struct cow *cow, uint64_t iov_off,
                          const struct iovec *iov, unsigned niov)
{
    const struct cow parts[] = {
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

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++)
        r = write_merged(q, &parts[i], iov_off, iov, niov);
    return r;
}

/* Write it; meanwhile what the next cluster will copy is read. */
static int write_filled(struct qcow2 *q, const struct cow *cow, uint64_t iov_off,
                        const struct iovec *iov, unsigned niov)
{
    struct qcow2_prefetch prefetch;
    int r;

    if (cow->fresh && fills_all(cow))
        qcow2_file_reserve(q, cow->host, cow->end - cow->start);
    qcow2_ahead_begin(q, &prefetch);
    r = (q->block.without & BLOCK_WITHOUT_MERGE_COW) ? write_unmerged(q, cow, iov_off, iov, niov)
                                                     : write_merged(q, cow, iov_off, iov, niov);
    qcow2_ahead_end(&prefetch);
    return r;
}

static int fill_clusters(struct qcow2 *q, const struct qcow2_alloc *alloc, uint64_t off,
                         uint64_t len, uint64_t iov_off, const struct iovec *iov, unsigned niov)
{
    struct cow cow = {
        .start = alloc->start,
        .off = off,
        .len = len,
        .end = alloc->end,
        .host = alloc->host + qcow2_in_cluster(q, alloc->start),
        .fresh = alloc->fresh,
    };
    int r;

    cow.head = plan_part(q, &cow, cow.start, head_len(&cow));
    cow.tail = plan_part(q, &cow, tail_off(&cow), tail_len(&cow));
    r = zero_fast(q, &cow);
    if (r == 0)
        r = co_turn(filled_len(&cow)); /* much more than the guest's, if clusters are large */
    if (r == 0)
        r = read_old(q, &cow);
    if (r == 0)
        r = write_filled(q, &cow, iov_off, iov, niov);
    free(cow.buf);
    return r;
}

/*
 * Write the beginning of [off, off + len) into clusters that are new, or ours by now. The caller
 * holds all its clusters exclusively.
 *
 * The tables show the new clusters only when the data is in them, so a crash or a failed write
 * leaves the old contents.
 */
static int write_allocating(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                            const struct iovec *iov, unsigned niov, uint64_t *ret_done)
{
    struct qcow2_alloc alloc;
    uint64_t n;
    int r = qcow2_alloc_begin(q, off, len, &alloc);

    if (r < 0)
        return r;
    if (alloc.n == 0) /* somebody else allocated it while we waited for the range */
        return qcow2_write_parts(q, off, len, iov_off, iov, niov, ret_done);

    n = min_u64(len, alloc.end - off);
    r = qcow2_check_data_range(q, alloc.host, alloc.n << q->cluster_bits);
    if (r == 0)
        r = fill_clusters(q, &alloc, off, n, iov_off, iov, niov);
    if (r == 0)
        r = qcow2_alloc_commit(q, &alloc);
    if (r < 0)
        qcow2_alloc_abort(q, &alloc);
    *ret_done = n;
    return r;
}

int qcow2_begin_write(struct qcow2 *q, uint64_t off, uint64_t len)
{
    int r = qcow2_prepare_write(q);

    if (r < 0)
        return r;
    qcow2_bitmaps_note(q, off, len);
    return qcow2_bound_dirty(q);
}

static int write_one(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                     const struct iovec *iov, unsigned niov, uint64_t *ret_done)
{
    uint64_t start = align_down(off, q->cluster_size);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, off, len, false);
    r = qcow2_write_parts(q, off, len, iov_off, iov, niov, ret_done);
    range_release(&q->ranges, &range);
    if (r < 0 || *ret_done > 0)
        return r;

    range_acquire(&q->ranges, &range, start, align_up(off + len, q->cluster_size) - start, true);
    r = write_allocating(q, off, len, iov_off, iov, niov, ret_done);
    range_release(&q->ranges, &range);
    return r;
}

int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t done = 0;
    int r = qcow2_begin_write(q, off, len);

    while (r == 0 && done < len) {
        uint64_t n = 0;

        r = write_one(q, off + done, len - done, done, iov, niov, &n);
        done += n;
    }
    return r;
}

/* ---- zeroes and discards --------------------------------------------------------------------- */

/*
 * The part of a cluster, or of clusters that cannot be marked as zero. A raw data file may have
 * data where the tables know of none: a power cut came between the two.
 */
static int write_zero_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    struct iovec iov = {(void *)(uintptr_t)file_zeroes, 0};
    int r = 0;

    for (; r == 0 && len > 0; off += iov.iov_len, len -= iov.iov_len) {
        iov.iov_len = (size_t)min_u64(len, FILE_ZEROES_LEN);
        if (q->raw_data || how == QCOW2_CLEAR_ZERO_OWN || !qcow2_reads_zero(q, off, iov.iov_len))
            r = qcow2_write(&q->block, off, iov.iov_len, &iov, 1);
    }
    return r;
}

/* The external data file is a raw image as well: what reads as zero has to be zero there. */
static int zero_raw_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    return q->raw_data ? qcow2_data_zero(q, off, min_u64(len, q->block.len - off),
                                         !qcow2_clear_keeps_space(how) && q->block.discard)
                       : 0;
}

/* Clusters of an external data file are not counted: their space goes back here. */
static int punch_data(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    int r;

    if (q->data == q->block.file || q->raw_data || qcow2_clear_keeps_space(how) ||
        !q->block.discard || len < q->cluster_size)
        return 0;
    r = qcow2_data_zero_fast(q, off, len, true);
    return r == -EOPNOTSUPP ? 0 : r; /* a hint */
}

/* What qcow2_clear does at a time, with its clusters held exclusively. */
static int clear_held(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    int r = zero_raw_data(q, off, len, how);

    if (r == 0)
        r = qcow2_clear(q, off, len, how);
    return r == 0 ? punch_data(q, off, len, how) : r;
}

static int clear_piece(struct qcow2 *q, uint64_t off, uint64_t len, enum qcow2_clear how)
{
    uint64_t start = align_down(off, q->cluster_size);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, start, align_up(off + len, q->cluster_size) - start, true);
    r = clear_held(q, off, len, how);
    range_release(&q->ranges, &range);
    if (r == -ENOTSUP)
        r = write_zero_data(q, off, min_u64(len, q->block.len - off), how);
    return r;
}

/* Whole clusters or subclusters. */
static int clear_range(struct qcow2 *q, uint64_t off, uint64_t end, enum qcow2_clear how)
{
    int r = 0;

    while (r == 0 && off < end) {
        uint64_t len = qcow2_clear_piece(q, off, end - off);

        r = co_turn(CLEAR_COST);
        if (r == 0)
            r = qcow2_bound_dirty(q);
        if (r == 0)
            r = clear_piece(q, off, len, how);
        off += len;
    }
    return r;
}

/* The units that lie in [off, off + len) as a whole; the disk's end completes the last one. */
static void whole_units(const struct qcow2 *q, uint64_t off, uint64_t len, uint64_t unit,
                        uint64_t *ret_first, uint64_t *ret_end)
{
    uint64_t end = off + len;

    *ret_first = align_up(off, unit);
    *ret_end = end == q->block.len ? align_up(end, unit) : align_down(end, unit);
    if (*ret_end < *ret_first)
        *ret_end = *ret_first;
}

static enum qcow2_clear how_to_zero(unsigned flags)
{
    if (flags & BLOCK_REQ_OWN)
        return QCOW2_CLEAR_ZERO_OWN;
    return flags & BLOCK_REQ_UNMAP ? QCOW2_CLEAR_ZERO_UNMAP : QCOW2_CLEAR_ZERO;
}

static int qcow2_write_zeroes(struct block *block, uint64_t off, uint64_t len, unsigned flags)
{
    enum qcow2_clear how = how_to_zero(flags);
    struct qcow2 *q = qcow2_of(block);
    uint64_t end = off + len;
    uint64_t first;
    uint64_t last;
    int r = qcow2_begin_write(q, off, len);

    if (r < 0)
        return r;
    whole_units(q, off, len, qcow2_unit_size(q), &first, &last);
    r = write_zero_data(q, off, min_u64(first, end) - off, how);
    if (r == 0)
        r = clear_range(q, first, last, how);
    if (r == 0 && last < end)
        r = write_zero_data(q, max_u64(last, off), end - max_u64(last, off), how);
    return r;
}

/* A part of a cluster: when all others were discarded too, the cluster is. */
static int discard_part(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t start = align_down(off, q->cluster_size);
    struct qcow2_extent extent;
    struct range range;
    int r;

    if (len == 0)
        return 0;
    range_acquire(&q->ranges, &range, start, q->cluster_size, true);
    r = qcow2_map(q, off, len, false, &extent);
    if (r == 0 && extent.kind != QCOW2_UNALLOCATED && qcow2_partial_discard(q, off, len))
        r = clear_held(q, start, q->cluster_size, QCOW2_CLEAR_DISCARD);
    range_release(&q->ranges, &range);
    return r;
}

static int qcow2_discard(struct block *block, uint64_t off, uint64_t len)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t end = off + len;
    uint64_t first;
    uint64_t last;
    int r = qcow2_begin_write(q, off, len);

    if (r < 0)
        return r;
    whole_units(q, off, len, q->cluster_size, &first, &last);
    r = discard_part(q, off, min_u64(first, end) - off);
    if (r == 0)
        r = clear_range(q, first, last, QCOW2_CLEAR_DISCARD);
    if (r == 0 && max_u64(last, off) < end)
        r = discard_part(q, max_u64(last, off), end - max_u64(last, off));
    return r;
}

/* ---- driver ---------------------------------------------------------------------------------- */

static int qcow2_flush_request(struct block *block)
{
    return qcow2_flush(qcow2_of(block));
}

static bool qcow2_is_zero(struct block *block, uint64_t off, uint64_t len)
{
    return qcow2_reads_zero(qcow2_of(block), off, len);
}

static void qcow2_get_info(const struct block *block, struct block_info *info)
{
    const struct qcow2 *q = qcow2_of(block);

    info->opt_io = (uint32_t)q->cluster_size;
    info->discard_align = (uint32_t)q->cluster_size;
    info->alloc_unit = (uint32_t)qcow2_unit_size(q);
}

static void qcow2_share_memory(struct block *block, unsigned n)
{
    qcow2_cache_share(qcow2_of(block), n);
    qcow2_share_inflated(qcow2_of(block), n);
}

static void qcow2_trim(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);

    qcow2_cache_trim(q);
    qcow2_free_inflated(q);
    qcow2_ahead_forget(q);
    if (q->counted.n > 0) {
        q->counted.give_back = true;
        block->written = true;
    }
}

static int qcow2_get_status(struct block *block, uint64_t off, uint64_t len,
                            struct block_status *ret_status)
{
    static const unsigned flags[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_ZEROES] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_ZERO,
        [QCOW2_NORMAL] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA | BLOCK_STATUS_OFFSET,
        [QCOW2_PACKED] = BLOCK_STATUS_ALLOCATED | BLOCK_STATUS_DATA | BLOCK_STATUS_COMPRESSED,
    };
    struct qcow2_extent extent;
    int r = qcow2_map(qcow2_of(block), off, len, false, &extent);

    if (r < 0)
        return r;
    ret_status->flags = flags[extent.kind];
    if (extent.has_space)
        ret_status->flags |= BLOCK_STATUS_OFFSET;
    ret_status->len = extent.len;
    ret_status->host = extent.host;
    return 0;
}

const struct block_driver qcow2_driver = {
    .name = "qcow2",
    .read = qcow2_read,
    .write = qcow2_write,
    .write_compressed = qcow2_write_compressed,
    .copy = qcow2_copy,
    .write_zeroes = qcow2_write_zeroes,
    .discard = qcow2_discard,
    .flush = qcow2_flush_request,
    .is_zero = qcow2_is_zero,
    .get_status = qcow2_get_status,
    .get_info = qcow2_get_info,
    .has_holes = qcow2_has_holes,
    .get_details = qcow2_get_details,
    .list_bitmaps = qcow2_list_bitmaps,
    .edit_bitmap = qcow2_edit_bitmap,
    .list_snapshots = qcow2_list_snapshots,
    .create_snapshot = qcow2_create_snapshot,
    .apply_snapshot = qcow2_apply_snapshot,
    .delete_snapshot = qcow2_delete_snapshot,
    .show_snapshot = qcow2_show_snapshot,
    .write_vmstate = qcow2_write_vmstate,
    .read_vmstate = qcow2_read_vmstate,
    .trim = qcow2_trim,
    .share_memory = qcow2_share_memory,
    .recover = qcow2_recover,
    .resize = qcow2_resize,
    .check = qcow2_check,
    .make_empty = qcow2_make_empty,
    .change_backing = qcow2_change_backing,
    .amend = qcow2_amend,
    .close = qcow2_close_image,
    .free = qcow2_free,
};
