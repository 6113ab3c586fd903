/*
 * Reads and writes of what is mapped already. The parts of a request that lie in different places
 * of the host are carried out side by side.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/qcow2/qcow2.h"

/*
 * Finding and starting a part takes about as long as copying so many bytes (co_turn): parts can be
 * of 512 bytes, in each of many layers.
 */
#define PART_COST (4u << 10)

/* What one extent holds of a request. */
struct part {
    struct qcow2 *q;
    struct co_group *group;
    bool write;
    uint64_t off;
    struct qcow2_extent extent;
    const struct iovec *iov; /* of the request */
    unsigned niov;
    uint64_t iov_off; /* where the part begins in it */
};

int qcow2_read_backing(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
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
        return qcow2_read_backing(q, off, extent->len, iov, niov);
    case QCOW2_ZEROES:
        iov_memset(iov, niov, 0, 0, extent->len);
        return 0;
    case QCOW2_NORMAL:
        return qcow2_data_readv(q, extent->host, iov, niov);
    case QCOW2_PACKED:
        return qcow2_read_packed(q, off, extent->entry, extent->len, iov, niov);
    }
    return -EIO;
}

int qcow2_check_data_range(struct qcow2 *q, uint64_t host, uint64_t len)
{
    if (q->data != q->block.file)
        return 0;
    if (qcow2_is_metadata(q, host, len))
        return qcow2_mark_corrupt(q, "metadata is used as data", host);
    q->file_end = max_u64(q->file_end, align_up(host + len, q->cluster_size));
    return 0;
}

static int write_extent(struct qcow2 *q, const struct qcow2_extent *extent, const struct iovec *iov,
                        unsigned niov)
{
    int r = qcow2_check_data_range(q, extent->host, extent->len);

    return r < 0 ? r : qcow2_data_writev(q, extent->host, iov, niov);
}

/* ---- parts of a request ---------------------------------------------------------------------- */

static int run_part(const struct part *part)
{
    struct iov_part iov;
    int r = iov_part_take(&iov, part->iov, part->niov, part->iov_off, part->extent.len);

    if (r < 0)
        return r;
    if (part->write)
        r = write_extent(part->q, &part->extent, iov.iov, iov.niov);
    else
        r = read_extent(part->q, part->off, &part->extent, iov.iov, iov.niov);
    iov_part_done(&iov);
    return r;
}

static void part_main(void *opaque)
{
    struct part part = *(struct part *)opaque;

    free(opaque);
    co_group_done(part.group, run_part(&part));
}

static bool asks_the_host(const struct part *part)
{
    return part->extent.kind != QCOW2_ZEROES &&
           (part->extent.kind != QCOW2_UNALLOCATED || part->q->block.backing);
}

/* Carry the part out, beside those that follow if that is possible. */
static int start_part(const struct part *part)
{
    struct part *copy = co_self() && asks_the_host(part) ? malloc(sizeof(*copy)) : NULL;

    if (copy) {
        *copy = *part;
        if (co_group_start(part->group, part_main, copy) == 0)
            return 0;
        free(copy);
    }
    return run_part(part);
}

static bool is_in_place(const struct qcow2_extent *extent)
{
    return extent->kind == QCOW2_NORMAL && extent->copied;
}

/* `what` says what is to be done and where in the vector it begins. */
static int run_parts(const struct part *what, uint64_t off, uint64_t len, uint64_t *ret_done)
{
    struct co_group group;
    struct part part = *what;
    uint64_t iov_off = part.iov_off;
    uint64_t done = 0;
    int r = 0;
    int r2;

    co_group_init(&group);
    part.group = &group;
    while (r == 0 && group.result == 0 && done < len) {
        part.off = off + done;
        part.iov_off = iov_off + done;
        r = co_turn(PART_COST);
        if (r < 0)
            break;
        r = qcow2_map(part.q, part.off, len - done, false, &part.extent);
        if (r < 0 || (part.write && !is_in_place(&part.extent)))
            break;
        if (part.extent.kind == QCOW2_PACKED)
            qcow2_packed_lengthen(part.q, part.off, len - done, &part.extent);
        if (part.write)
            qcow2_partial_write(part.q, part.off, part.extent.len);
        done += part.extent.len;
        r = done < len ? start_part(&part) : run_part(&part);
    }
    r2 = co_group_wait(&group);
    *ret_done = done;
    return r < 0 ? r : r2;
}

int qcow2_read_parts(struct qcow2 *q, uint64_t off, uint64_t len, const struct iovec *iov,
                     unsigned niov)
{
    struct part part = {.q = q, .iov = iov, .niov = niov};
    uint64_t done;

    return run_parts(&part, off, len, &done);
}

int qcow2_write_parts(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t iov_off,
                      const struct iovec *iov, unsigned niov, uint64_t *ret_done)
{
    struct part part = {.q = q, .write = true, .iov = iov, .niov = niov, .iov_off = iov_off};

    return run_parts(&part, off, len, ret_done);
}
