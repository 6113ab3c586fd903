/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long operation on an image in use: how far it is, how fast it may be, and what is wanted of it.
 *
 * The operation's thread and others look at the first fields and set them: they are atomic. An
 * operation that rests has no timer but one: until it may go on by its speed. Whoever wants
 * something else of it wakes it.
 */
#ifndef MINIVMM_BLOCK_JOB_H
#define MINIVMM_BLOCK_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/co.h"
#include "base/compiler.h"
#include "base/loop.h"
#include "block/block.h"

enum block_job_state {
    BLOCK_JOB_CREATED, /* it may yet turn out that it cannot work */
    BLOCK_JOB_RUNNING,
    BLOCK_JOB_READY, /* the other image has it all, and follows; it ends when it is asked to */
};

/* What the host refused to a job. */
enum block_job_failure { BLOCK_JOB_NO_FAILURE, BLOCK_JOB_READ_FAILED, BLOCK_JOB_WRITE_FAILED };

struct block_job {
    uint64_t len;    /* of the work, in bytes */
    uint64_t offset; /* what is done of it */
    uint64_t speed;  /* bytes per second at most; 0: no limit */
    bool paused;
    bool cancelled;
    bool complete;  /* it need not wait when it is ready */
    bool stay;      /* when it is complete, the disk stays where it is */
    unsigned state; /* enum block_job_state */

    struct loop *loop;      /* where the operation runs; NULL: no job was ever begun */
    struct loop_work woken; /* on `loop` */
    struct loop *watcher;
    struct loop_work news; /* on `watcher`: `state` has changed */

    /* Owner: the operation. */
    double debt;      /* bytes that were moved before their time; below 0: that may be */
    uint64_t debt_ns; /* when it was reckoned */
    struct co *resting;
    struct loop_timer timer;
    enum block_job_failure failure; /* valid when it is done */
};

static inline uint64_t block_job_get(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void block_job_set(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static inline bool block_job_is(const bool *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline enum block_job_state block_job_get_state(const struct block_job *job)
{
    return (enum block_job_state)__atomic_load_n(&job->state, __ATOMIC_RELAXED);
}

/*
 * A new job, that is to run on `loop`; `news` is called on the loop `watcher`. The one before it,
 * all zero or done, may have been woken too late: that does no harm.
 */
void block_job_begin(struct block_job *job, uint64_t speed, struct loop *loop, struct loop *watcher,
                     void (*news)(struct loop_work *news));

/* No job is begun any more, and `loop` does not run. */
void block_job_done(struct block_job *job);

/* ---- any thread, while the job's loop is there ----------------------------------------------- */

/* Set one of the job's flags, or its speed, and wake it. */
void block_job_let(struct block_job *job, bool *flag, bool value);
void block_job_set_speed(struct block_job *job, uint64_t speed);

/* ---- the operation --------------------------------------------------------------------------- */

/* On the job's thread: it looks again at what is wanted of it. */
void block_job_wake(struct block_job *job);

/* The job has come so far. */
void block_job_enter(struct block_job *job, enum block_job_state state);

/* Rest until the job is woken, perhaps for nothing. In the operation's coroutine. */
void block_job_rest(struct block_job *job);

/*
 * In an operation, between two pieces: `offset` is reached, and the last piece moved `moved` bytes,
 * 0 if it only looked. Waits for as long as the speed asks for, or while paused. 0, or -ECANCELED.
 */
int block_job_step(struct block_job *job, uint64_t offset, uint64_t moved) MUST_CHECK;

#endif
