/*
 * The host I/O of qcow2 images: all of it passes here, where it is counted and where metadata,
 * which is always in the image file, parts from the guest's data, which may be in a file of its
 * own. Once an image is found corrupt, no change of it gets past here.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/qcow2/qcow2.h"

/* ---- metadata -------------------------------------------------------------------------------- */

int qcow2_meta_read(struct qcow2 *q, uint64_t host, void *buf, size_t len)
{
    q->block.stats.meta_reads++;
    q->block.stats.meta_read_bytes += len;
    return file_read(q->block.file, host, buf, len);
}

int qcow2_meta_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.meta_writes++;
    q->block.stats.meta_write_bytes += len;
    return file_write(q->block.file, host, buf, len);
}

int qcow2_meta_zero(struct qcow2 *q, uint64_t host, uint64_t len)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.fallocates++;
    return file_zero(q->block.file, host, len, false);
}

int qcow2_packed_read(struct qcow2 *q, uint64_t host, void *buf, size_t len)
{
    q->block.stats.data_reads++;
    q->block.stats.data_read_bytes += len;
    return file_read(q->block.file, host, buf, len);
}

int qcow2_packed_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.data_writes++;
    q->block.stats.data_write_bytes += len;
    return file_write(q->block.file, host, buf, len);
}

/* ---- the guest's data ------------------------------------------------------------------------ */

int qcow2_data_readv(struct qcow2 *q, uint64_t host, const struct iovec *iov, unsigned niov)
{
    q->block.stats.data_reads++;
    q->block.stats.data_read_bytes += iov_len(iov, niov);
    return file_readv(q->data, host, iov, niov);
}

int qcow2_data_writev(struct qcow2 *q, uint64_t host, const struct iovec *iov, unsigned niov)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.data_writes++;
    q->block.stats.data_write_bytes += iov_len(iov, niov);
    return file_writev(q->data, host, iov, niov);
}

int qcow2_data_copy(struct qcow2 *q, uint64_t host, uint64_t len, struct file *from,
                    uint64_t from_off)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.data_copies++;
    q->block.stats.data_copy_bytes += len;
    return file_copy(q->data, host, len, from, from_off);
}

int qcow2_data_zero(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.fallocates++;
    return file_zero(q->data, host, len, unmap);
}

bool qcow2_data_is_hole(struct qcow2 *q, uint64_t host, uint64_t len)
{
    uint64_t end;

    return file_hole_at(q->data, host, &end) && end >= host + len;
}

int qcow2_data_zero_fast(struct qcow2 *q, uint64_t host, uint64_t len, bool unmap)
{
    if (q->corrupt)
        return -EIO;
    q->block.stats.fallocates++;
    return file_zero_fast(q->data, host, len, unmap);
}

/* ---- length ---------------------------------------------------------------------------------- */

int qcow2_file_set_len(struct qcow2 *q, uint64_t len)
{
    int r = file_truncate(q->block.file, len);

    if (r < 0)
        return r;
    q->file_len = len;
    q->durable_len = min_u64(q->durable_len, len);
    return 0;
}

/* How much is added: as much as there is, within these. It takes no space, only a larger length. */
#define GROW_MIN (1ull << 20)
#define GROW_MAX (1ull << 30)

/*
 * A write behind the end of the file changes its length, so file systems carry such writes out one
 * at a time, and io_uring hands each to a thread. In a hole they run side by side: with direct I/O
 * on ext4, five times as many of them.
 */
void qcow2_file_grow(struct qcow2 *q, uint64_t end)
{
    uint64_t len = end + min_u64(max_u64(end, GROW_MIN), GROW_MAX);

    if (end <= max_u64(q->file_len, q->grow_from) || q->block.file->fixed_len)
        return;
    if (qcow2_file_set_len(q, len) < 0)
        q->grow_from = end;
    else
        q->file_grown = true;
}

/* Data behind what is counted, in so many pieces, is what a crash leaves. */
#define STRAY_PIECES_MAX 64u

/* The end of the last data in the file from `off` on; its length, `len`, if that cannot be told. */
static uint64_t data_end(struct qcow2 *q, uint64_t off, uint64_t len)
{
    uint64_t last = off;

    for (unsigned i = 0; i < STRAY_PIECES_MAX; i++) {
        uint64_t end;
        bool hole = file_hole_at(q->block.file, off, &end);

        if (end >= len)
            return hole ? last : len;
        if (!hole)
            last = end;
        off = end;
    }
    return len;
}

void qcow2_file_find_end(struct qcow2 *q)
{
    uint64_t cluster;
    uint64_t len;
    uint64_t end;

    if (q->file_grown || q->block.file->fixed_len || qcow2_counted_end(q, &cluster) < 0 ||
        file_get_len(q->block.file, &len) < 0)
        return;
    end = align_up(data_end(q, cluster << q->cluster_bits, len), q->cluster_size);
    if (end >= q->file_end || qcow2_is_metadata(q, end, q->file_end - end))
        return;
    q->file_end = end;
    q->file_grown = true;
}

void qcow2_file_shrink(struct qcow2 *q)
{
    if (!q->file_grown || q->file_len <= q->file_end || q->corrupt)
        return;
    if (qcow2_file_set_len(q, q->file_end) < 0)
        log_debug("%s: the file keeps a hole at its end", q->path);
    q->file_grown = false;
}

/* So much at a time; what is not used of it goes back when the image is closed. */
#define RESERVE_AHEAD (8ull << 20)

/*
 * Only with direct I/O: in the page cache the file system finds space when it writes back. A
 * failure is not the request's: the write finds out for itself.
 */
void qcow2_file_reserve(struct qcow2 *q, uint64_t host, uint64_t len)
{
    struct qcow2_reserve *reserve = &q->reserve;
    uint64_t end = min_u64(host + max_u64(len, RESERVE_AHEAD), q->file_len);
    bool goes_on = host == reserve->next;

    if (q->corrupt || q->data->align == 1 || q->data->fixed_len || reserve->refused)
        return;
    reserve->next = host + len;
    if (!goes_on || end <= host || (host >= reserve->start && host + len <= reserve->end))
        return;
    reserve->start = host;
    reserve->end = end;
    q->block.stats.fallocates++;
    if (file_reserve(q->data, host, end - host) < 0)
        reserve->refused = true;
}

/* ---- durability ------------------------------------------------------------------------------ */

int qcow2_barrier(struct qcow2 *q)
{
    uint64_t len = q->file_len;
    int r;

    q->block.stats.barriers++;
    r = file_sync(q->block.file);
    if (r == 0)
        q->durable_len = max_u64(q->durable_len, len);
    return r == 0 && q->data != q->block.file ? file_sync(q->data) : r;
}

int qcow2_barrier_at_first(struct qcow2 *q)
{
    int r = q->settled ? 0 : qcow2_barrier(q);

    q->settled = r == 0;
    return r;
}
