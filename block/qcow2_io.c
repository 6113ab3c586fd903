/*
 * Requests on qcow2 images, as the guest made them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2.h"
#include "vmm/base/bytes.h"
#include "vmm/base/iov.h"

/*
 * Head and tail of a cluster are read together with what lies between them if that is at most this:
 * one request of the host costs more than copying so much too many.
 */
#define COW_READ_THROUGH (16u << 10)

/* Memory for direct I/O. */
#define COW_ALIGN 4096u

/* ---- reading -------------------------------------------------------------------------------------- */

/* From the backing file, as far as it goes; behind its end the overlay reads as zero. */
static int read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                        unsigned niov)
{
    struct block *backing = q->block.backing;
    uint64_t end = backing ? min_u64(backing->len, q->block.len) : 0;
    uint64_t have = off < end ? min_u64(len, end - off) : 0;
    struct iov_part part;
    int r;

    iov_memset(iov, niov, have, 0, len - have);
    if (have == 0)
        return 0;
    r = iov_part_take(&part, iov, niov, 0, have);
    if (r < 0)
        return r;
    r = backing->driver->read(backing, off, have, part.iov, part.niov);
    iov_part_done(&part);
    return r;
}

static int read_extent(struct qcow2 *q, uint64_t off, const struct qcow2_extent *extent,
                       const struct iovec *iov, unsigned niov)
{
    switch (extent->kind) {
    case QCOW2_UNALLOCATED:
        return read_backing(q, off, extent->len, iov, niov);
    case QCOW2_ZEROES:
        iov_memset(iov, niov, 0, 0, extent->len);
        return 0;
    case QCOW2_NORMAL:
        return file_readv(q->block.file, extent->host, iov, niov);
    case QCOW2_PACKED:
        return qcow2_read_packed(q, extent->entry, off & (q->cluster_size - 1), extent->len, iov,
                                 niov);
    }
    return -EIO;
}

/* The caller holds the range, shared or exclusive. */
static int read_held(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                     unsigned niov)
{
    uint64_t done = 0;
    int r = 0;

    while (r == 0 && done < len) {
        struct qcow2_extent extent;
        struct iov_part part;

        r = qcow2_map(q, off + done, len - done, false, &extent);
        if (r < 0)
            break;
        r = iov_part_take(&part, iov, niov, done, extent.len);
        if (r < 0)
            break;
        r = read_extent(q, off + done, &extent, part.iov, part.niov);
        iov_part_done(&part);
        done += extent.len;
    }
    return r;
}

static int qcow2_read(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                      unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, off, len, false);
    r = read_held(q, off, len, iov, niov);
    range_release(&q->ranges, &range);
    return r;
}

/* ---- writing where the data is ------------------------------------------------------------------- */

static int write_extent(struct qcow2 *q, const struct qcow2_extent *extent, uint64_t done,
                        const struct iovec *iov, unsigned niov)
{
    struct iov_part part;
    int r;

    if (qcow2_is_metadata(q, extent->host, extent->len))
        return qcow2_mark_corrupt(q, "metadata is used as data", extent->host);
    q->file_end = max_u64(q->file_end, align_up(extent->host + extent->len, q->cluster_size));
    r = iov_part_take(&part, iov, niov, done, extent->len);
    if (r < 0)
        return r;
    r = file_writev(q->block.file, extent->host, part.iov, part.niov);
    iov_part_done(&part);
    return r;
}

/*
 * Write the beginning of [off, off + len) that is mapped and only ours; *ret_done says how much
 * that was. The caller holds the range. `iov_off` is where `off` is in the vector.
 */
static int write_in_place(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                          const struct iovec *iov, unsigned niov, uint64_t *ret_done)
{
    uint64_t done = 0;
    int r = 0;

    while (r == 0 && done < len) {
        struct qcow2_extent extent;

        r = qcow2_map(q, off + done, len - done, false, &extent);
        if (r < 0 || extent.kind != QCOW2_NORMAL || !extent.copied)
            break;
        r = write_extent(q, &extent, iov_off + done, iov, niov);
        done += extent.len;
    }
    *ret_done = done;
    return r;
}

/* ---- writing into new clusters -------------------------------------------------------------------- */

enum fill {
    FILL_NOTHING, /* empty, or it reads as zero already */
    FILL_ZEROES,  /* written from a buffer of zeroes */
    FILL_COPY,    /* what the guest sees there now */
};

/*
 * A write into newly allocated space:
 *
 *     start       off             off + len      end
 *       |<- head ->|<-- the guest's -->|<- tail ->|        start, end: whole clusters
 */
struct cow {
    uint64_t start;
    uint64_t off;
    uint64_t len;
    uint64_t end;
    uint64_t host; /* of start */
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

static enum fill plan_part(struct qcow2 *q, uint64_t off, uint64_t len, bool fresh)
{
    /* Clusters at the end of the disk go on behind it, where nothing can be seen. */
    uint64_t visible = off < q->block.len ? min_u64(len, q->block.len - off) : 0;

    if (len == 0)
        return FILL_NOTHING;
    if (!qcow2_reads_zero(q, off, visible))
        return FILL_COPY;
    return fresh ? FILL_NOTHING : FILL_ZEROES;
}

/* Zero head and tail by asking the file system, where that is possible. */
static int zero_fast(struct qcow2 *q, struct cow *cow)
{
    bool one_cluster = cow->end - cow->start == q->cluster_size;
    int r = 0;

    if (q->no_fast_zero || (cow->head != FILL_ZEROES && cow->tail != FILL_ZEROES))
        return 0;
    if (one_cluster && cow->head == FILL_ZEROES && cow->tail == FILL_ZEROES) {
        r = file_zero_fast(q->block.file, cow->host, q->cluster_size, false);
    } else {
        if (cow->head == FILL_ZEROES)
            r = file_zero_fast(q->block.file, cow->host, head_len(cow), false);
        if (r == 0 && cow->tail == FILL_ZEROES)
            r = file_zero_fast(q->block.file, cow->host + (tail_off(cow) - cow->start),
                               tail_len(cow), false);
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

    return read_held(q, off, len, &iov, 1);
}

/* Read what is to be copied: both parts at once if they are close together. */
static int read_old(struct qcow2 *q, struct cow *cow)
{
    uint64_t head = cow->head == FILL_COPY ? head_len(cow) : 0;
    uint64_t tail = cow->tail == FILL_COPY ? tail_len(cow) : 0;
    bool together = head && tail && cow->len <= COW_READ_THROUGH;
    uint64_t len = together ? cow->end - cow->start : head + tail;
    int r = 0;

    if (len == 0)
        return 0;
    cow->buf = aligned_alloc(COW_ALIGN, align_up(len, COW_ALIGN));
    if (!cow->buf)
        return -ENOMEM;
    cow->head_buf = cow->buf;
    cow->tail_buf = cow->head_buf + (together ? tail_off(cow) - cow->start : head);
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
        r = file_writev(q->block.file, host, merged, n);
    }
    free(merged);
    return r;
}

static int fill_clusters(struct qcow2 *q, const struct qcow2_alloc *alloc, uint64_t off,
                         uint64_t len, uint64_t iov_off, const struct iovec *iov, unsigned niov)
{
    struct cow cow = {
        .start = alloc->off,
        .off = off,
        .len = len,
        .end = alloc->off + (alloc->n << q->cluster_bits),
        .host = alloc->host,
    };
    int r;

    cow.head = plan_part(q, cow.start, head_len(&cow), alloc->fresh);
    cow.tail = plan_part(q, tail_off(&cow), tail_len(&cow), alloc->fresh);
    r = zero_fast(q, &cow);
    if (r == 0)
        r = read_old(q, &cow);
    if (r == 0)
        r = write_merged(q, &cow, iov_off, iov, niov);
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
        return write_in_place(q, off, len, iov_off, iov, niov, ret_done);

    n = min_u64(len, alloc.off + (alloc.n << q->cluster_bits) - off);
    if (qcow2_is_metadata(q, alloc.host, alloc.n << q->cluster_bits))
        return qcow2_mark_corrupt(q, "metadata is used as data", alloc.host);
    r = fill_clusters(q, &alloc, off, n, iov_off, iov, niov);
    if (r == 0)
        r = qcow2_alloc_commit(q, &alloc);
    if (r < 0)
        qcow2_alloc_abort(q, &alloc);
    *ret_done = n;
    return r;
}

static int begin_write(struct qcow2 *q)
{
    int r = qcow2_prepare_write(q);

    return r < 0 ? r : qcow2_bound_dirty(q);
}

static int write_one(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                     const struct iovec *iov, unsigned niov, uint64_t *ret_done)
{
    uint64_t start = align_down(off, q->cluster_size);
    struct range range;
    int r;

    range_acquire(&q->ranges, &range, off, len, false);
    r = write_in_place(q, off, len, iov_off, iov, niov, ret_done);
    range_release(&q->ranges, &range);
    if (r < 0 || *ret_done > 0)
        return r;

    range_acquire(&q->ranges, &range, start, align_up(off + len, q->cluster_size) - start, true);
    r = write_allocating(q, off, len, iov_off, iov, niov, ret_done);
    range_release(&q->ranges, &range);
    return r;
}

static int qcow2_write(struct block *block, uint64_t off, uint64_t len, const struct iovec *iov,
                       unsigned niov)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t done = 0;
    int r = begin_write(q);

    while (r == 0 && done < len) {
        uint64_t n = 0;

        r = write_one(q, off + done, len - done, done, iov, niov, &n);
        done += n;
    }
    return r;
}

/* ---- zeroes and discards -------------------------------------------------------------------------- */

/* The part of a cluster, or of clusters that cannot be marked as zero. */
static int write_zero_data(struct qcow2 *q, uint64_t off, uint64_t len)
{
    struct iovec iov = {(void *)(uintptr_t)file_zeroes, 0};
    int r = 0;

    for (; r == 0 && len > 0; off += iov.iov_len, len -= iov.iov_len) {
        iov.iov_len = (size_t)min_u64(len, FILE_ZEROES_LEN);
        if (!qcow2_reads_zero(q, off, iov.iov_len))
            r = qcow2_write(&q->block, off, iov.iov_len, &iov, 1);
    }
    return r;
}

/* Whole clusters [off, end). *ret_off is where it stopped: at `end`, or at an error. */
static int clear_clusters(struct qcow2 *q, uint64_t off, uint64_t end, enum qcow2_clear how,
                          uint64_t *ret_off)
{
    int r = 0;

    while (r == 0 && off < end) {
        struct range range;
        uint64_t n;

        r = qcow2_bound_dirty(q);
        if (r < 0)
            break;
        range_acquire(&q->ranges, &range, off, end - off, true);
        r = qcow2_clear(q, off, (end - off) >> q->cluster_bits, how, &n);
        range_release(&q->ranges, &range);
        if (r == 0)
            off += n << q->cluster_bits;
    }
    *ret_off = off;
    return r;
}

/* The clusters that lie in [off, off + len) as a whole; the disk's end completes the last one. */
static void whole_clusters(const struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_first,
                           uint64_t *ret_end)
{
    uint64_t end = off + len;

    *ret_first = align_up(off, q->cluster_size);
    *ret_end =
        end == q->block.len ? align_up(end, q->cluster_size) : align_down(end, q->cluster_size);
    if (*ret_end < *ret_first)
        *ret_end = *ret_first;
}

static int qcow2_write_zeroes(struct block *block, uint64_t off, uint64_t len, bool unmap)
{
    struct qcow2 *q = qcow2_of(block);
    enum qcow2_clear how = unmap ? QCOW2_CLEAR_ZERO_UNMAP : QCOW2_CLEAR_ZERO;
    uint64_t end = off + len;
    uint64_t first;
    uint64_t last;
    uint64_t at;
    int r = begin_write(q);

    if (r < 0)
        return r;
    at = off;
    whole_clusters(q, off, len, &first, &last);
    r = write_zero_data(q, off, min_u64(first, end) - off);
    if (r == 0)
        r = clear_clusters(q, first, last, how, &at);
    if (r == -ENOTSUP) /* version 2 over a backing file: there is no zero cluster */
        r = write_zero_data(q, at, min_u64(last, end) - at);
    if (r == 0 && last < end)
        r = write_zero_data(q, max_u64(last, off), end - max_u64(last, off));
    return r;
}

static int qcow2_discard(struct block *block, uint64_t off, uint64_t len)
{
    struct qcow2 *q = qcow2_of(block);
    uint64_t first;
    uint64_t last;
    uint64_t at;
    int r = begin_write(q);

    whole_clusters(q, off, len, &first, &last);
    return r < 0 ? r : clear_clusters(q, first, last, QCOW2_CLEAR_DISCARD, &at);
}

/* ---- driver ---------------------------------------------------------------------------------------- */

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
}

static void qcow2_trim(struct block *block)
{
    struct qcow2 *q = qcow2_of(block);

    qcow2_cache_trim(q);
    qcow2_free_inflated(q);
}

const struct block_driver qcow2_driver = {
    .name = "qcow2",
    .read = qcow2_read,
    .write = qcow2_write,
    .write_zeroes = qcow2_write_zeroes,
    .discard = qcow2_discard,
    .flush = qcow2_flush_request,
    .is_zero = qcow2_is_zero,
    .get_info = qcow2_get_info,
    .trim = qcow2_trim,
    .close = qcow2_close,
    .free = qcow2_free,
};
