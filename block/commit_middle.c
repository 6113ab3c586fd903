/* SPDX-License-Identifier: Apache-2.0 */
#include "block/commit_middle.h"

#include <errno.h>

#include "base/bytes.h"
#include "block/commit_copy.h"
#include "block/driver.h"
#include "block/stack.h"

/* The overlay's header is going to be written, and perhaps only that. */
static int open_overlay(const struct block_middle *m, struct err *err)
{
    return m->overlay == m->active ? 0 : block_begin_writing(m->overlay, err);
}

static int close_overlay(const struct block_middle *m)
{
    return m->overlay == m->active ? 0 : block_end_writing(m->overlay);
}

static int begin(const struct block_middle *m, const struct commit_copy *copy, struct err *err)
{
    int r;

    block_hold(m->active);
    r = open_overlay(m, err);
    if (r == 0) {
        r = commit_copy_begin(copy, err);
        if (r < 0)
            (void)close_overlay(m); /* nothing was written */
    }
    block_release(m->active);
    return r;
}

/* A long extent that the base has already is looked at once, and counts as a piece. */
static int copy_all(struct commit_copy *copy)
{
    uint64_t looked = 0;
    uint64_t copied = 0;
    uint64_t len = 0;
    int r = 0;

    for (uint64_t off = 0; r == 0 && off < copy->top->len; off += len) {
        r = commit_copy_extent(copy, off, copy->top->len - off, &len, &copied);
        looked += len;
        if (r < 0 || (looked < COMMIT_PIECE && off + len < copy->top->len))
            continue;
        r = block_job_step(copy->job, off + len, copied);
        looked = 0;
        copied = 0;
    }
    return r;
}

/*
 * The base becomes a file that is only read before the overlay names it: afterwards nothing can
 * fail.
 */
static int finish(const struct block_middle *m, struct commit_copy *copy,
                  struct block **ret_dropped, struct err *err)
{
    int r = block_end_writing(m->base);

    if (r < 0) {
        copy->job->failure = BLOCK_JOB_WRITE_FAILED;
        return commit_copy_explain(copy, r, err);
    }
    r = block_stack_drop(m->active, m->overlay, m->base, m->name, ret_dropped, err);
    if (r < 0)
        err_prefix(err, "%s", m->overlay->path);
    return r;
}

static int commit(const struct block_middle *m, struct commit_copy *copy,
                  struct block **ret_dropped, struct err *err)
{
    int r = begin(m, copy, err);

    if (r < 0)
        return r;
    block_job_set(&copy->job->len, copy->top->len);
    block_job_enter(copy->job, BLOCK_JOB_RUNNING);
    r = copy_all(copy);
    if (r < 0)
        commit_copy_explain(copy, r, err);
    block_hold(m->active);
    if (r == 0)
        r = finish(m, copy, ret_dropped, err);
    if (m->base->writable)
        (void)block_end_writing(m->base); /* the first failure is the one to tell */
    (void)close_overlay(m);               /* its header is durable, and nothing else changed */
    block_release(m->active);
    return r;
}

int block_commit_middle(const struct block_middle *m, struct block_job *job,
                        struct block **ret_dropped, struct err *err)
{
    struct commit_copy copy;
    int r;

    *ret_dropped = NULL;
    if (!m->active->writable)
        return err_set(err, -EROFS, "%s: the image is open for reading only", m->active->path);
    r = commit_copy_init(&copy, m->overlay->backing, m->base, job, err);
    if (r == 0)
        r = commit(m, &copy, ret_dropped, err);
    commit_copy_done(&copy);
    return r;
}
