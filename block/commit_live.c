/* SPDX-License-Identifier: Apache-2.0 */
#include "block/commit_live.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/dirty.h"
#include "block/driver.h"
#include "block/stack.h"

/* Copied at a time, at most. */
#define PIECE ((size_t)1 << 20)
#define PIECE_ALIGN 4096u

/*
 * So little is copied while requests wait. A guest that writes as fast as is copied would never let
 * it come to that: after so many passes that left hardly less than they found, its requests wait
 * for the rest.
 */
#define REST (4u << 20)
#define FUTILE_MAX 3u

struct commit {
    struct block *top;
    struct block *base;
    struct block_job *job;
    struct block_dirty *dirty;
    void *buf;
    bool refused; /* the base takes no such first sector */
    bool broken;  /* the top could not be emptied, and takes no write any more */
};

/*
 * A raw base whose format nobody but an image has said must not begin to look like another format
 * (raw.c). That is not the host's refusal, which has the same number.
 */
static int write_base(struct commit *c, uint64_t off, uint64_t len, const struct iovec *iov)
{
    int r = c->base->driver->write(c->base, off, len, iov, 1);

    c->refused |= r == -EPERM && off == 0;
    return r;
}

/* Copy the first extent of a range to the base, if the top has it; *ret_len is its length. */
static int copy_extent(struct commit *c, uint64_t off, uint64_t len, uint64_t *ret_len)
{
    struct block_status status;
    struct iovec iov = {c->buf, 0};
    int r = block_get_status(c->top, off, len, true, &status);

    if (r < 0)
        return r;
    *ret_len = min_u64(status.len, len);
    if (!(status.flags & BLOCK_STATUS_ALLOCATED))
        return 0; /* the base has it already */
    *ret_len = min_u64(*ret_len, PIECE);
    if (status.flags & BLOCK_STATUS_ZERO)
        return c->base->driver->write_zeroes(c->base, off, *ret_len, BLOCK_REQ_UNMAP);
    iov.iov_len = *ret_len;
    r = c->top->driver->read(c->top, off, *ret_len, &iov, 1);
    return r < 0 ? r : write_base(c, off, *ret_len, &iov);
}

/* `rest` of what was taken is still to be copied. */
static uint64_t done_so_far(const struct commit *c, uint64_t rest)
{
    return c->top->len - min_u64(c->top->len, c->dirty->ndirty * c->dirty->unit + rest);
}

/* A long extent that the base has already is looked at once, and counts as a piece. */
static int copy_range(struct commit *c, uint64_t off, uint64_t end, bool last)
{
    uint64_t moved = 0;
    uint64_t len = 0;
    int r = 0;

    c->base->written = true;
    while (r == 0 && off < end) {
        r = copy_extent(c, off, end - off, &len);
        off += len;
        moved += len;
        if (r == 0 && !last && (moved >= PIECE || off == end)) {
            r = block_job_step(c->job, c->top, done_so_far(c, end - off), min_u64(moved, PIECE));
            moved = 0;
        }
    }
    return r;
}

/*
 * Copy what is marked. A mark is taken before its unit is read, and set again when a request has
 * changed the unit: so a change that the reading missed is marked.
 */
static int copy_marked(struct commit *c, bool last)
{
    const uint64_t max = max_u64(PIECE / c->dirty->unit, 1);
    uint64_t unit = 0;
    uint64_t n;
    int r = 0;

    while (r == 0 && (n = block_dirty_take(c->dirty, &unit, max)) > 0) {
        uint64_t off = unit * c->dirty->unit;
        uint64_t end = min_u64(off + n * c->dirty->unit, c->top->len);

        r = copy_range(c, off, end, last);
        unit += n;
    }
    return r;
}

static int copy_while_in_use(struct commit *c)
{
    const uint64_t rest = max_u64(REST / c->dirty->unit, 1);
    unsigned futile = 0;
    int r = 0;

    while (r == 0 && futile < FUTILE_MAX && c->dirty->ndirty > rest) {
        uint64_t before = c->dirty->ndirty;

        r = copy_marked(c, false);
        if (c->dirty->ndirty > before / 4 * 3)
            futile++;
    }
    return r;
}

/* Held: nothing changes any more. */
static int finish(struct commit *c)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = copy_marked(c, true);

    if (r == 0)
        r = c->base->driver->flush(c->base);
    if (r == 0)
        r = block_execute(c->top, &flush);
    if (r == 0) {
        r = c->top->driver->make_empty(c->top);
        c->broken = r < 0 && block_execute(c->top, &flush) < 0;
    }
    if (r < 0)
        return r;
    c->base->written = false;
    c->base->discard = c->top->discard;
    block_job_set(&c->job->offset, c->top->len);
    (void)block_take_backing(c->top); /* it is c->base */
    c->top->dirty = NULL;
    block_hand_over(c->top, c->base);
    block_share_memory(c->base);
    return 0;
}

static int begin(const struct commit *c, struct err *err)
{
    const struct block_resize_options options = {.len = c->top->len};
    int r;

    if (c->base->len > c->top->len)
        return err_set(err, -ENOTSUP, "%s: the backing file is longer than the disk",
                       c->base->path);
    block_hold(c->top);
    r = block_begin_writing(c->base, err);
    if (r == 0 && c->base->len < c->top->len)
        r = block_resize(c->base, &options, err);
    if (r == 0)
        c->top->dirty = c->dirty;
    else if (c->base->writable)
        (void)block_end_writing(c->base); /* the first failure is the one to tell */
    block_release(c->top);
    return r;
}

/* The image goes on as before; what the base has got is hidden by it. */
static void give_up(const struct commit *c)
{
    if (!c->top->held)
        block_hold(c->top);
    c->top->dirty = NULL;
    (void)block_end_writing(c->base); /* the first failure is the one to tell */
    block_release(c->top);
}

static int explain(const struct commit *c, int error, struct err *err)
{
    if (c->refused)
        return err_set(err, error,
                       "%s: cannot be committed: its first sector would make %s look like an image "
                       "of another format, as a guest could wish; minivmm-img commits it all the "
                       "same, if it is to be opened with format=raw only",
                       c->top->path, c->base->path);
    if (c->broken)
        return err_set_errno(err, error,
                             "%s: could not be emptied after all of it was committed, and takes no "
                             "write until it is opened again",
                             c->top->path);
    return err_set_errno(err, error, "%s: cannot be committed to its backing file", c->top->path);
}

static int commit(struct commit *c, struct err *err)
{
    int r = begin(c, err);

    if (r < 0)
        return r;
    block_job_set(&c->job->len, c->top->len);
    r = copy_while_in_use(c);
    if (r == 0) {
        block_hold(c->top);
        r = finish(c);
    }
    if (r == 0)
        return 0;
    explain(c, r, err);
    give_up(c);
    return r;
}

int block_commit_live(struct block *top, struct block_job *job, struct block **ret_base,
                      struct err *err)
{
    struct commit c = {.top = top, .base = top->backing, .job = job};
    int r = -ENOMEM;

    if (!c.base)
        return err_set(err, -ENOTSUP, "%s: the image has no backing file", top->path);
    if (!top->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", top->path);
    c.dirty = block_dirty_new(top->len);
    c.buf = aligned_alloc(PIECE_ALIGN, PIECE);
    if (c.dirty && c.buf)
        r = commit(&c, err);
    else
        err_set(err, r, "out of memory");
    free(c.buf);
    free(c.dirty);
    if (r == 0)
        *ret_base = c.base;
    return r;
}
