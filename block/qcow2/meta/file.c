/* SPDX-License-Identifier: Apache-2.0 */
#include "block/qcow2/meta/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/qcow2/format/header.h"
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

int qcow2_packed_data_read(struct qcow2 *q, uint64_t host, void *buf, size_t len)
{
    q->block.stats.data_reads++;
    q->block.stats.data_read_bytes += len;
    return file_read(q->block.file, host, buf, len);
}

int qcow2_packed_data_write(struct qcow2 *q, uint64_t host, const void *buf, size_t len)
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

/* The file grows by its length, within these bounds. What is added is a hole and takes no space. */
#define GROW_MIN (1ull << 20)
#define GROW_MAX (1ull << 30)

/*
 * A write past the end of the file changes its length, so file systems carry such writes out one
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

void qcow2_file_shrink(struct qcow2 *q)
{
    if (!q->file_grown || q->file_len <= q->file_end || q->corrupt)
        return;
    if (qcow2_file_set_len(q, q->file_end) < 0)
        log_debug("%s: the file keeps a hole at its end", q->path);
    q->file_grown = false;
}

/* The host finds so much space at a time. Closing the image gives back what is not used of it. */
#define RESERVE_AHEAD (8ull << 20)

/* The space that the host has found last for writes of whole clusters: [start, end). */
struct qcow2_reserve {
    uint64_t next; /* where the last write of whole clusters ended */
    uint64_t start;
    uint64_t end;
    bool refused; /* the host has failed once and is not asked again */
};

/*
 * The host is asked only with direct I/O: of what is in the page cache the file system finds space
 * when it writes it back. A failure here is no error: the write itself fails where space is short.
 */
void qcow2_file_reserve(struct qcow2 *q, uint64_t host, uint64_t len)
{
    struct qcow2_reserve *reserve;
    uint64_t end = min_u64(host + max_u64(len, RESERVE_AHEAD), q->file_len);
    bool goes_on;

    if (q->corrupt || q->data->align == 1 || q->data->fixed_len)
        return;
    if (!q->reserve)
        q->reserve = calloc(1, sizeof(*q->reserve));
    reserve = q->reserve;
    if (!reserve || reserve->refused)
        return;
    goes_on = host == reserve->next;
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

/* ---- fields of the header -------------------------------------------------------------------- */

int qcow2_write_reftable_pointer(struct qcow2 *q, uint64_t host, uint32_t clusters)
{
    uint8_t data[12]; /* both fields in one write: they lie in one sector */
    int r;

    store_be64(data, host);
    store_be32(data + 8, clusters);
    r = qcow2_meta_write(q, HDR_REFTABLE_OFF, data, sizeof(data));
    return r < 0 ? r : qcow2_barrier(q);
}

static int write_feature_bits(struct qcow2 *q, uint64_t at, uint64_t bits)
{
    uint8_t data[8];
    int r;

    store_be64(data, bits);
    r = qcow2_meta_write(q, at, data, sizeof(data));
    return r < 0 ? r : qcow2_barrier(q);
}

int qcow2_set_autoclear(struct qcow2 *q, uint64_t keep)
{
    int r = q->autoclear & ~keep ? write_feature_bits(q, HDR_AUTOCLEAR, keep) : 0;

    if (r == 0)
        q->autoclear = keep;
    return r;
}

int qcow2_set_dirty(struct qcow2 *q, bool dirty)
{
    uint64_t bits =
        dirty ? q->incompatible | QCOW2_INCOMPAT_DIRTY : q->incompatible & ~QCOW2_INCOMPAT_DIRTY;
    int r = bits != q->incompatible ? write_feature_bits(q, HDR_INCOMPATIBLE, bits) : 0;

    /*
     * A bit that could not be cleared may be gone from the file all the same: it counts as cleared,
     * so that it is set again when refcounts are left unwritten.
     */
    if (r == 0 || !dirty)
        q->incompatible = bits;
    return r;
}

/* ---- an image that contradicts itself -------------------------------------------------------- */

/* The one write that a corrupt image still gets. */
static int write_corrupt_bit(struct qcow2 *q)
{
    uint8_t data[8];
    int r;

    q->incompatible |= QCOW2_INCOMPAT_CORRUPT;
    store_be64(data, q->incompatible);
    r = file_write(q->block.file, HDR_INCOMPATIBLE, data, sizeof(data));
    return r < 0 ? r : qcow2_barrier(q);
}

int qcow2_mark_corrupt(struct qcow2 *q, const char *what, uint64_t host)
{
    if (q->corrupt)
        return -EIO;
    q->corrupt = true;
    log_error("%s: corrupt qcow2 image: %s (offset %#" PRIx64 "): nothing is written any more; "
              "repair it with minivmm-img check -r all",
              q->path, what, host);
    if (q->version < 3)
        return -EIO;
    if (write_corrupt_bit(q) < 0)
        log_error("%s: the image could not be marked as corrupt", q->path);
    return -EIO;
}
