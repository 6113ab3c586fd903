/* SPDX-License-Identifier: Apache-2.0 */
#include "block/commit_copy.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/driver.h"
#include "block/stack.h"

#define PIECE_ALIGN 4096u

int commit_copy_init(struct commit_copy *copy, struct block *top, struct block *base,
                     struct block_job *job, struct err *err)
{
    *copy = (struct commit_copy){.top = top, .base = base, .job = job};
    co_mutex_init(&copy->copying);
    copy->buf = aligned_alloc(PIECE_ALIGN, COMMIT_PIECE);
    return copy->buf ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void commit_copy_done(struct commit_copy *copy)
{
    free(copy->buf);
}

int commit_copy_begin(const struct commit_copy *copy, struct err *err)
{
    const struct block_resize_options options = {.len = copy->top->len};
    int r;

    if (copy->base->len > copy->top->len)
        return err_set(err, -ENOTSUP, "%s: the backing file is longer than %s", copy->base->path,
                       copy->top->path);
    r = block_begin_writing(copy->base, err);
    if (r < 0)
        return r;
    if (copy->base->len < copy->top->len)
        r = block_resize(copy->base, &options, err);
    if (r < 0)
        (void)block_end_writing(copy->base); /* the first failure is the one to tell */
    return r;
}

static int note_failure(const struct commit_copy *copy, enum block_job_failure failure, int r)
{
    if (r < 0)
        copy->job->failure = failure;
    return r;
}

/*
 * A raw base whose format nobody but an image has said must not begin to look like another format
 * (raw.c). That is not the host's refusal, which has the same number.
 */
static int write_base(struct commit_copy *copy, uint64_t off, uint64_t len, const struct iovec *iov)
{
    int r = copy->base->driver->write(copy->base, off, len, iov, 1);

    copy->refused |= r == -EPERM && off == 0;
    return note_failure(copy, BLOCK_JOB_WRITE_FAILED, r);
}

static int zero_base(const struct commit_copy *copy, uint64_t off, uint64_t len)
{
    int r = copy->base->driver->write_zeroes(copy->base, off, len, BLOCK_REQ_UNMAP);

    return note_failure(copy, BLOCK_JOB_WRITE_FAILED, r);
}

static int copy_extent(struct commit_copy *copy, uint64_t off, uint64_t len, uint64_t *ret_len,
                       uint64_t *copied)
{
    struct block_status status;
    struct iovec iov = {copy->buf, 0};
    int r = block_get_status_above(copy->top, copy->base, off, len, &status);

    if (r < 0)
        return note_failure(copy, BLOCK_JOB_READ_FAILED, r);
    *ret_len = min_u64(status.len, len);
    if (status.layer == copy->base)
        return 0; /* it has it already */
    *ret_len = min_u64(*ret_len, COMMIT_PIECE);
    copy->base->written = true;
    if (status.flags & BLOCK_STATUS_ZERO)
        return zero_base(copy, off, *ret_len);
    *copied += *ret_len;
    iov.iov_len = *ret_len;
    r = copy->top->driver->read(copy->top, off, *ret_len, &iov, 1);
    if (r < 0)
        return note_failure(copy, BLOCK_JOB_READ_FAILED, r);
    return write_base(copy, off, *ret_len, &iov);
}

int commit_copy_extent(struct commit_copy *copy, uint64_t off, uint64_t len, uint64_t *ret_len,
                       uint64_t *copied)
{
    int r;

    co_mutex_lock(&copy->copying);
    r = copy_extent(copy, off, len, ret_len, copied);
    co_mutex_unlock(&copy->copying);
    return r;
}

int commit_copy_explain(const struct commit_copy *copy, int error, struct err *err)
{
    if (copy->refused)
        return err_set(err, error,
                       "%s: cannot be committed: its first sector would make %s look like an image "
                       "of another format, as a guest could wish; minivmm-img commits it all the "
                       "same, if it is to be opened with format=raw only",
                       copy->top->path, copy->base->path);
    return err_set_errno(err, error, "%s: cannot be committed to its backing file",
                         copy->top->path);
}
