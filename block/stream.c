/* SPDX-License-Identifier: Apache-2.0 */
#include "block/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/driver.h"
#include "block/stack.h"

/* Copied at a time: no cluster is in two pieces. */
#define PIECE BLOCK_ALLOC_UNIT_MAX
#define PIECE_ALIGN 4096u

struct stream {
    struct block *block;
    struct block *base;
    struct block_job *job;
    void *buf;
};

/*
 * Does the image have to say by itself that the range is zeroes? Only where what is below would
 * show; *len becomes the length of what the answer holds for.
 */
static int must_say_zero(const struct stream *s, uint64_t off, uint64_t *len, bool *ret_must)
{
    struct block_status below;
    int r;

    *ret_must = false;
    if (!s->base || off >= s->base->len)
        return 0;
    r = block_get_status(s->base, off, min_u64(*len, s->base->len - off), false, &below);
    if (r < 0)
        return r;
    *len = below.len;
    *ret_must = !(below.flags & BLOCK_STATUS_ZERO);
    return 0;
}

/* The next stretch from `off` on: its length, and whether it has to be taken over. */
static int look(const struct stream *s, uint64_t off, uint64_t *ret_len, bool *ret_take,
                bool *ret_zero)
{
    struct block_status status;
    int r = block_get_status_above(s->block, s->base, off, s->block->len - off, &status);
    bool here;

    if (r < 0)
        return r;
    here = status.layer == s->block && (status.flags & BLOCK_STATUS_ALLOCATED);
    *ret_len = status.len;
    *ret_zero = status.flags & BLOCK_STATUS_ZERO;
    *ret_take = !here && status.layer != s->base;
    return *ret_take && *ret_zero ? must_say_zero(s, off, ret_len, ret_take) : 0;
}

/* The next stretch from `off` on; *ret_copied says how much of it had to be copied. */
static int stream_piece(const struct stream *s, uint64_t off, uint64_t *ret_len,
                        uint64_t *ret_copied)
{
    bool zero;
    bool take;
    int r = look(s, off, ret_len, &take, &zero);

    *ret_copied = 0;
    if (r < 0 || !take)
        return r;
    *ret_len = min_u64(*ret_len, PIECE - off % PIECE);
    *ret_copied = zero ? 0 : *ret_len;
    r = s->block->driver->copy_up(s->block, off, *ret_len, s->buf, zero);
    s->block->written = true;
    return r;
}

static int stream_all(const struct stream *s)
{
    uint64_t len = 0;
    int r = 0;

    for (uint64_t off = 0; r == 0 && off < s->block->len; off += len) {
        uint64_t copied;

        r = stream_piece(s, off, &len, &copied);
        if (r < 0)
            s->job->failure = BLOCK_JOB_READ_FAILED; /* as QEMU calls any failure of these */
        else
            r = block_job_step(s->job, off + len, copied);
    }
    return r;
}

static int drop_backing(const struct stream *s, const char *name, struct block **ret_dropped,
                        struct err *err)
{
    int r;

    block_hold(s->block);
    r = block_stack_drop(s->block, s->block, s->base, name, ret_dropped, err);
    block_release(s->block);
    return r;
}

static int stream(const struct stream *s, const char *name, struct block **ret_dropped,
                  struct err *err)
{
    int r;

    block_job_enter(s->job, BLOCK_JOB_RUNNING);
    block_job_set(&s->job->len, s->block->len);
    r = stream_all(s);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot copy from the backing file", s->block->path);
    return drop_backing(s, name, ret_dropped, err);
}

/* There is nothing to copy, but the base may get another name. */
static int rename_base(struct block *block, const struct block *base, const char *name,
                       struct err *err)
{
    int r = 0;

    block_hold(block);
    if (base && strcmp(name, block->backing_name) != 0)
        r = block_change_backing(block, name, base->driver->name, err);
    block_release(block);
    return r;
}

int block_stream(struct block *block, struct block *base, const char *name, struct block_job *job,
                 struct block **ret_dropped, struct err *err)
{
    struct stream s = {.block = block, .base = base, .job = job};
    int r;

    *ret_dropped = NULL;
    if (block->backing == base) {
        block_job_enter(job, BLOCK_JOB_RUNNING);
        return rename_base(block, base, name, err);
    }
    if (!block->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", block->path);
    s.buf = aligned_alloc(PIECE_ALIGN, PIECE);
    if (!s.buf)
        return err_set(err, -ENOMEM, "out of memory");
    r = stream(&s, name, ret_dropped, err);
    free(s.buf);
    return r;
}
