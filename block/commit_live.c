/* SPDX-License-Identifier: Apache-2.0 */
#include "block/commit_live.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "block/commit_copy.h"
#include "block/dirty.h"
#include "block/driver.h"
#include "block/stack.h"

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
    struct commit_copy copy;
    struct block *top;
    struct block *base;
    const char *name; /* of the base, for the top's header */
    struct block_job *job;
    struct block_dirty *dirty;
    struct block **dropped;
    int result;  /* of what requests have copied */
    bool broken; /* the top could not be emptied, and takes no write any more */
};

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
        return block_job_step(c->job, done_so_far(c, rest), copied);
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

    while (r == 0 && off < end) {
        r = commit_copy_extent(&c->copy, off, end - off, &len, &copied);
        off += len;
        looked += len;
        if (r == 0 && (looked >= COMMIT_PIECE || off == end)) {
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
    const uint64_t max = max_u64(COMMIT_PIECE / size, 1);
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

/* A request has changed something: the job copies it when it is not little any more. */
static void note_change(void *opaque, uint64_t off, uint64_t len)
{
    const struct commit *c = opaque;

    if (!is_little(c) && !block_job_is(&c->job->paused))
        block_job_wake(c->job);
}

static bool waits(const struct commit *c)
{
    return block_job_is(&c->job->paused) || !block_job_is(&c->job->complete);
}

/*
 * The base has nearly all, and follows, until somebody says that the disk is to move. Requests are
 * as fast as ever.
 */
static int follow(struct commit *c)
{
    int r = 0;

    block_follow(c->top, note_change, c);
    block_job_enter(c->job, BLOCK_JOB_READY);
    while (r == 0 && waits(c)) {
        r = copy_all(c, JOB);
        if (r == 0 && waits(c) && is_little(c)) {
            block_job_rest(c->job);
            r = check_wanted(c);
        }
    }
    return r;
}

/* Hold the image with no more than that marked. */
static int hold_caught_up(struct commit *c)
{
    for (;;) {
        int r = is_little(c) ? 0 : copy_while_in_use(c);

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

/*
 * All is in the base, durably. First the top's header says that the base is right below it, which
 * shows the same; then it is emptied, and shows the base.
 */
static int empty_top(struct commit *c, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = 0;

    if (c->top->backing != c->base)
        r = block_stack_drop(c->top, c->top, c->base, c->name, c->dropped, err);
    if (r < 0)
        return r;
    r = c->top->driver->make_empty(c->top);
    c->broken = r < 0 && block_execute(c->top, &flush) < 0;
    return r;
}

/* Held: nothing changes any more. The base gets the rest, durably. */
static int copy_rest(struct commit *c)
{
    int r = copy_all(c, JOB_HELD);

    if (r < 0)
        return r;
    r = c->base->driver->flush(c->base);
    if (r < 0)
        c->job->failure = BLOCK_JOB_WRITE_FAILED;
    else
        block_job_set(&c->job->offset, c->top->len);
    return r;
}

static int move_requests(struct commit *c, struct err *err)
{
    struct block_req flush = {.op = BLOCK_FLUSH};
    int r = block_execute(c->top, &flush);

    if (r == 0)
        r = empty_top(c, err);
    if (r < 0)
        return r;
    c->base->written = false;
    c->base->discard = c->top->discard;
    (void)block_take_backing(c->top, NULL); /* it is c->base */
    stop_watching(c);
    block_hand_over(c->top, c->base);
    block_share_memory(c->base);
    return 0;
}

static int begin(const struct commit *c, struct err *err)
{
    int r;

    block_hold(c->top);
    r = commit_copy_begin(&c->copy, err);
    if (r == 0)
        c->top->dirty = c->dirty;
    block_release(c->top);
    return r;
}

/* The image goes on as before; what the base has got is hidden by it. */
static void stay(const struct commit *c)
{
    if (!c->top->held)
        block_hold(c->top);
    stop_watching(c);
    (void)block_end_writing(c->base); /* the first failure is the one to tell */
    block_release(c->top);
}

static int explain(const struct commit *c, int error, struct err *err)
{
    if (c->broken)
        return err_set_errno(err, error,
                             "%s: could not be emptied after all of it was committed, and takes no "
                             "write until it is opened again",
                             c->top->path);
    return commit_copy_explain(&c->copy, error, err);
}

static int commit(struct commit *c, bool *ret_moved, struct err *err)
{
    bool moves;
    int r = begin(c, err);

    if (r < 0)
        return r;
    block_job_set(&c->job->len, c->top->len);
    block_job_enter(c->job, BLOCK_JOB_RUNNING);
    r = copy_while_in_use(c);
    if (r == 0)
        r = follow(c);
    if (r == 0)
        r = hold_caught_up(c);
    if (r == 0)
        r = copy_rest(c);
    moves = !block_job_is(&c->job->stay);
    if (r == 0 && moves)
        r = move_requests(c, err);
    if (r < 0)
        explain(c, r, err);
    if (r < 0 || !moves)
        stay(c);
    *ret_moved = r == 0 && moves;
    return r;
}

int block_commit_live(struct block *top, struct block *base, const char *name,
                      struct block_job *job, struct block_commit_live *ret_done, struct err *err)
{
    struct commit c = {
        .top = top,
        .base = base,
        .name = name,
        .job = job,
        .dropped = &ret_done->dropped,
    };
    int r;

    *ret_done = (struct block_commit_live){0};
    if (!top->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", top->path);
    r = commit_copy_init(&c.copy, top, base, job, err);
    c.dirty = block_dirty_new(top->len);
    if (r == 0)
        r = c.dirty ? commit(&c, &ret_done->moved, err) : err_set(err, -ENOMEM, "out of memory");
    free(c.dirty);
    commit_copy_done(&c.copy);
    return r;
}
