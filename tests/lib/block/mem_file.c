/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/block/mem_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/aio.h"
#include "base/bytes.h"
#include "base/iov.h"
#include "block/block.h"

#define MEM_HOLE_UNIT 512u

/* How many other operations finish before a late one. */
#define MEM_LATE 200

struct mem_file {
    struct file file;
    struct mem_disk *disk;
    struct aio_task finish;
    struct list pending;
    unsigned npending;
    int nfinished;
};

static void mem_submit(struct file *file, struct file_io *io);

struct mem_disk *mem_file_disk(struct file *file)
{
    return container_of(file, struct mem_file, file)->disk;
}

/* ---- one operation --------------------------------------------------------------------------- */

static int do_read(const struct mem_disk *disk, const struct file_io *io, uint64_t len)
{
    if (io->off >= disk->len)
        return 0;
    return (int)iov_from_buf(io->iov, io->niov, 0, disk->data + io->off,
                             min_u64(len, disk->len - io->off));
}

static const struct mem_disk *copied_disk(const struct mem_disk *disk, const struct file_io *io)
{
    const struct mem_file *from = container_of(io->from, const struct mem_file, file);

    return io->from->ops->submit == mem_submit && from->disk != disk ? from->disk : NULL;
}

/*
 * A copy is written down as the write that it amounts to. 1, 0 if there is nothing to copy, or
 * -errno.
 */
static int get_data(struct mem_disk *disk, struct mem_op *op, const struct file_io *io)
{
    const struct mem_disk *from = op->op == FILE_COPY ? copied_disk(disk, io) : NULL;

    if (op->op == FILE_COPY && !from)
        return -EXDEV;
    if (from && io->from_off >= from->len)
        return 0;
    if (from)
        op->len = min_u64(op->len, from->len - io->from_off);
    if (!range_fits(op->off, op->len, disk->fixed_len ? disk->len : MEM_DISK_MAX))
        return -ENOSPC;
    op->data = malloc(op->len + 1);
    if (!op->data)
        mem_die("no memory");
    if (from)
        memcpy(op->data, from->data + io->from_off, op->len);
    else
        iov_to_buf(io->iov, io->niov, 0, op->data, op->len);
    op->op = FILE_WRITE;
    return 1;
}

static int do_change(struct mem_disk *disk, struct mem_op *op, const struct file_io *io)
{
    if (op->op == FILE_WRITE || op->op == FILE_COPY) {
        int r = get_data(disk, op, io);

        if (r <= 0)
            return r;
    } else if ((op->op == FILE_ZERO || op->op == FILE_PUNCH) && disk->no_zero) {
        return -EOPNOTSUPP;
    }
    mem_disk_apply(disk, op);
    if (disk->record)
        mem_record_add(disk->record, op);
    else
        free(op->data);
    return op->op == FILE_WRITE ? (int)op->len : 0;
}

/*
 * Short transfers move whole sectors: who reads in the middle of a write may see some sectors of
 * it, but never half of one.
 */
static uint64_t short_unit(const struct mem_disk *disk)
{
    return max_u64(disk->align, BLOCK_SECTOR_SIZE);
}

static bool is_transfer(unsigned op)
{
    return op == FILE_READ || op == FILE_WRITE || op == FILE_COPY;
}

/* Is it this operation's turn to fail? */
static bool is_faulty(const struct mem_disk *disk, unsigned op, uint64_t len)
{
    struct mem_fault *fault = disk->fault;

    if (!fault || fault->after < 0 || (fault->kinds && !(fault->kinds & (1u << op))))
        return false;
    if (fault->is_short && (!is_transfer(op) || len < 2 * short_unit(disk)))
        return false;
    if (fault->after > 0) {
        fault->after--;
        return false;
    }
    if (fault->more == 0)
        fault->after = -1;
    else
        fault->more--;
    fault->happened = true;
    return true;
}

/* What becomes of an operation: 0, or the error that it fails with; it may be short. */
static int choose_fate(const struct mem_disk *disk, struct mem_op *op)
{
    static const int results[] = {-EIO, -ENOSPC, -EAGAIN, -EINTR, -EOPNOTSUPP, -ENOMEM};
    unsigned fate;

    if (disk->choices->at >= disk->choices->n)
        return 0;
    fate = disk->choices->bytes[disk->choices->at++];
    if (fate < MEM_CHOICE_FAULTS)
        return 0;
    fate -= MEM_CHOICE_FAULTS;
    if (fate < ARRAY_SIZE(results))
        return results[fate];
    if (is_transfer(op->op) && op->len >= 2 * short_unit(disk))
        op->len = align_down(op->len / 2, short_unit(disk));
    return 0;
}

static int carry_out(struct mem_disk *disk, const struct file_io *io, size_t begin)
{
    struct mem_op op = {.disk = disk, .op = io->op, .begin = begin, .off = io->off, .len = io->len};
    int r = disk->choices ? choose_fate(disk, &op) : 0;

    disk->counts[io->op]++;
    if (io->op == FILE_WRITE && disk->before_write)
        disk->before_write();
    if (r < 0)
        return r;
    if (is_faulty(disk, io->op, io->len)) {
        if (!disk->fault->is_short)
            return disk->fault->result;
        op.len = align_down(io->len / 2, short_unit(disk));
    }
    if (is_transfer(io->op) && !is_aligned(io->off | io->len, disk->align))
        return -EINVAL;
    return io->op == FILE_READ ? do_read(disk, io, op.len) : do_change(disk, &op, io);
}

/* ---- their order ----------------------------------------------------------------------------- */

/* The operation that `pick` others stand before, of those that are not to be late. */
static struct file_io *find_pending(struct mem_file *mem, unsigned pick)
{
    list_for_each (item, &mem->pending) {
        struct file_io *io = container_of(item, struct file_io, link);

        if (io->fd <= mem->nfinished && pick-- == 0)
            return io;
    }
    return NULL;
}

static unsigned choose_next(struct mem_disk *disk)
{
    struct mem_choices *choices = disk->choices;

    return choices ? choices->bytes[choices->at++ % choices->n] : (unsigned)rand_r(&disk->seed);
}

/*
 * Finish one of those that wait, any one. Late ones have to be waited for if there are no others.
 */
static void finish_one(struct aio_task *task)
{
    struct mem_file *mem = container_of(task, struct mem_file, finish);
    struct file_io *io = NULL;
    unsigned n = 0;

    while (find_pending(mem, n))
        n++;
    if (n > 0)
        io = find_pending(mem, choose_next(mem->disk) % n);
    else
        io = container_of(mem->pending.next, struct file_io, link);
    mem->nfinished++;
    list_remove(&io->link);
    if (--mem->npending > 0)
        aio_defer(mem->file.aio, &mem->finish);
    io->done(io, carry_out(mem->disk, io, (size_t)io->result));
}

static void mem_submit(struct file *file, struct file_io *io)
{
    struct mem_file *mem = container_of(file, struct mem_file, file);
    size_t begin = mem->disk->record ? mem->disk->record->n : 0;

    if (!file->aio || !mem->disk->shuffle) {
        io->done(io, carry_out(mem->disk, io, begin));
        return;
    }
    io->result = (int)begin; /* ours while it is in flight, and so is fd */
    io->fd = 0;
    if (mem->disk->late > 0 && (unsigned)rand_r(&mem->disk->seed) % mem->disk->late == 0)
        io->fd = mem->nfinished + MEM_LATE;
    list_add_tail(&mem->pending, &io->link);
    mem->npending++;
    if (mem->npending > mem->disk->max_pending)
        mem->disk->max_pending = mem->npending;
    aio_defer(file->aio, &mem->finish);
}

/* ---- the rest of a file ---------------------------------------------------------------------- */

static int mem_get_len(struct file *file, uint64_t *ret_len)
{
    *ret_len = mem_file_disk(file)->len;
    return 0;
}

int mem_file_do(struct file *file, unsigned what, uint64_t off)
{
    struct mem_disk *disk = mem_file_disk(file);
    struct mem_op op = {
        .disk = disk, .op = what, .begin = disk->record ? disk->record->n : 0, .off = off};
    int r = disk->choices ? choose_fate(disk, &op) : 0;

    disk->counts[what]++;
    if (r < 0)
        return r;
    if (is_faulty(disk, what, 0))
        return disk->fault->result;
    return do_change(disk, &op, NULL);
}

static int mem_truncate(struct file *file, uint64_t len)
{
    struct mem_disk *disk = mem_file_disk(file);

    if (disk->fixed_len)
        return -ENOTSUP;
    return len > MEM_DISK_MAX ? -EFBIG : mem_file_do(file, MEM_TRUNCATE, len);
}

static bool is_zero(const struct mem_disk *disk, uint64_t off)
{
    uint64_t len = off < disk->len ? min_u64(MEM_HOLE_UNIT, disk->len - off) : 0;

    return len == 0 ||
           (disk->data[off] == 0 && memcmp(disk->data + off, disk->data + off + 1, len - 1) == 0);
}

/* What is zero is a hole, in units of a file system's blocks. */
static int mem_get_extent(struct file *file, uint64_t off, bool *ret_hole, uint64_t *ret_end)
{
    struct mem_disk *disk = mem_file_disk(file);
    uint64_t at = align_down(off, MEM_HOLE_UNIT);

    if (disk->fixed_len)
        return -EOPNOTSUPP;
    *ret_hole = is_zero(disk, at);
    while (at < disk->len && is_zero(disk, at) == *ret_hole)
        at += MEM_HOLE_UNIT;
    *ret_end = *ret_hole && at >= disk->len ? UINT64_MAX : min_u64(at, disk->len);
    return 0;
}

/* Holes take none. */
static int mem_get_space(struct file *file, uint64_t *ret_bytes)
{
    const struct mem_disk *disk = mem_file_disk(file);

    *ret_bytes = 0;
    for (uint64_t off = 0; off < disk->len; off += MEM_HOLE_UNIT)
        *ret_bytes += is_zero(disk, off) ? 0 : MEM_HOLE_UNIT;
    return 0;
}

static void mem_free(struct file *file)
{
    free(container_of(file, struct mem_file, file));
}

static const struct file_ops mem_ops = {
    .submit = mem_submit,
    .get_len = mem_get_len,
    .truncate = mem_truncate,
    .get_space = mem_get_space,
    .get_extent = mem_get_extent,
    .free = mem_free,
};

struct file *mem_file_new(struct mem_disk *disk, bool writable)
{
    struct mem_file *mem = calloc(1, sizeof(*mem));

    if (!mem)
        mem_die("no memory");
    file_init(&mem->file, &mem_ops);
    mem->file.id[0] = (uintptr_t)disk;
    mem->file.writable = writable;
    mem->file.fixed_len = disk->fixed_len;
    mem->file.align = disk->align;
    mem->file.mem_align = disk->align;
    mem->disk = disk;
    mem->finish.run = finish_one;
    list_init(&mem->pending);
    return &mem->file;
}
