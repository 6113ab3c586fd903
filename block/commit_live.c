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
 * it come to that: after so many passes that left hardly less than they found, each of its requests
 * is done only when the base has what it changed. None copies more than CATCH_UP_MAX for that: one
 * that zeroes a whole disk would go on for as long as that takes.
 */
#define REST (4u << 20)
#define FUTILE_MAX 3u
#define CATCH_UP_MAX (16u << 20)

struct commit {
    struct block *top;
    struct block *base;
    struct block_job *job;
    struct block_dirty *dirty;
    struct co_mutex copying; /* an extent: what was read first is written first */
    void *buf;
    int result;   /* of what requests have copied */
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

/*
 * Copy the first extent of a range to the base, if the top has it. *ret_len is its length, and
 * *copied grows by what was moved.
 */
static int copy_extent(struct commit *c, uint64_t off, uint64_t len, uint64_t *ret_len,
                       uint64_t *copied)
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
    *copied += *ret_len;
    iov.iov_len = *ret_len;
    r = c->top->driver->read(c->top, off, *ret_len, &iov, 1);
    return r < 0 ? r : write_base(c, off, *ret_len, &iov);
}

static int copy_extent_alone(struct commit *c, uint64_t off, uint64_t len, uint64_t *ret_len,
                             uint64_t *copied)
{
    int r;

    co_mutex_lock(&c->copying);
    r = copy_extent(c, off, len, ret_len, copied);
    co_mutex_unlock(&c->copying);
    return r;
}

/* `rest` of what was taken is still to be copied. */
static uint64_t done_so_far(const struct commit *c, uint64_t rest)
{
    return c->top->len - min_u64(c->top->len, c->dirty->ndirty * c->dirty->unit + rest);
}

enum copier {
    JOB,
    JOB_HELD, /* while requests wait */
    REQUEST,  /* one that is done when the base has what it changed */
};

static int check_wanted(const struct commit *c)
{
    return block_job_is(&c->job->cancelled) ? -ECANCELED : c->result;
}

/* Between two pieces; `rest` of what was taken is still to be copied. */
static int step(struct commit *c, enum copier by, uint64_t rest, uint64_t copied)
{
    if (by == JOB)
        return block_job_step(c->job, c->top, done_so_far(c, rest), copied);
    if (by == REQUEST)
        co_give_way(copied);
    return check_wanted(c);
}

/* A long extent that the base has already is looked at once, and counts as a piece. */
static int copy_range(struct commit *c, uint64_t off, uint64_t end, enum copier by)
{
    uint64_t looked = 0;
    uint64_t copied = 0;
    uint64_t len = 0;
    int r = 0;

    c->base->written = true;
    while (r == 0 && off < end) {
        r = copy_extent_alone(c, off, end - off, &len, &copied);
        off += len;
        looked += len;
        if (r == 0 && (looked >= PIECE || off == end)) {
            r = step(c, by, end - off, copied);
            looked = 0;
            copied = 0;
        }
    }
    return r;
}

/*
 * Copy the units from `unit` to `end` that are marked. A mark is taken before its unit is read, and
 * set again when a request has changed the unit: so a change that the reading missed is marked.
 */
static int copy_marked(struct commit *c, uint64_t unit, uint64_t end, enum copier by)
{
    const uint64_t size = c->dirty->unit;
    const uint64_t max = max_u64(PIECE / size, 1);
    int r = check_wanted(c);

    while (r == 0 && unit < end) {
        uint64_t n = block_dirty_take(c->dirty, &unit, min_u64(max, end - unit));

        if (n > 0 && unit < end)
            r = copy_range(c, unit * size, min_u64((unit + n) * size, c->top->len), by);
        if (n > 0 && (unit >= end || r < 0))
            block_dirty_mark(c->dirty, unit * size, n * size);
        unit = n > 0 ? unit + n : end;
    }
    return r;
}

static int copy_all(struct commit *c, enum copier by)
{
    int r = copy_marked(c, 0, c->dirty->nunits, by);

    return r < 0 ? r : check_wanted(c);
}

/*
 * A request has changed this, and is done when it is copied. What fails because requests are
 * cancelled stays marked.
 */
static void catch_up(void *opaque, uint64_t off, uint64_t len)
{
    struct commit *c = opaque;
    const uint64_t size = c->dirty->unit;
    int r;

    if (max_u64(len, size) > CATCH_UP_MAX)
        return;
    r = copy_marked(c, off / size, div_round_up(off + len, size), REQUEST);
    if (r < 0 && r != -ECANCELED && c->result == 0)
        c->result = r;
}

static bool is_little(const struct commit *c)
{
    return c->dirty->ndirty <= max_u64(REST / c->dirty->unit, 1);
}

/* Until there is so little that requests can wait for the rest. */
static int copy_while_in_use(struct commit *c)
{
    unsigned futile = 0;
    int r;

    do {
        uint64_t before = c->dirty->ndirty;

        r = copy_all(c, JOB);
        if (c->dirty->ndirty > before / 4 * 3)
            futile++;
        if (futile == FUTILE_MAX || is_little(c))
            block_follow(c->top, catch_up, c);
    } while (r == 0 && !is_little(c));
    return r;
}

/* Hold the image with no more than that marked. */
static int hold_caught_up(struct commit *c)
{
    for (;;) {
        int r = copy_while_in_use(c);

        if (r < 0)
            return r;
        block_hold(c->top);
        if (is_little(c))
            return 0;
        block_release(c->top);
    }
}

static void stop_watching(const struct commit *c)
{
    c->top->dirty = NULL;
    block_follow(c->top, NULL, NULL);
}

/* Held: nothing changes any more. */
static int finish(struct commit *c)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = copy_all(c, JOB_HELD);

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
    stop_watching(c);
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
    stop_watching(c);
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
    r = hold_caught_up(c);
    if (r == 0)
        r = finish(c);
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
    co_mutex_init(&c.copying);
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
