/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job.h"

#include <assert.h>
#include <errno.h>

#include "base/bytes.h"
#include "base/clock.h"

/* What a step counts for that moved nothing: it looked at tables. */
#define TURN_MIN (64u << 10)

/* Time that was not used may be made up for, up to so much: timers are later than asked for. */
#define CREDIT_S 0.05

/* No timer is set for longer. A job that is woken by it finds that it has to rest again. */
#define REST_MAX_S 3600.0

/* ---- resting --------------------------------------------------------------------------------- */

void block_job_wake(struct block_job *job)
{
    struct co *co = job->resting;

    if (!co)
        return;
    job->resting = NULL;
    loop_disarm(&job->timer);
    co_wake(co);
}

static void woken(struct loop_work *work)
{
    block_job_wake(container_of(work, struct block_job, woken));
}

static void time_is_up(struct loop_timer *timer)
{
    block_job_wake(container_of(timer, struct block_job, timer));
}

void block_job_rest(struct block_job *job)
{
    assert(co_self() && !job->resting);
    job->resting = co_self();
    co_suspend();
}

static void rest_for(struct block_job *job, uint64_t ns)
{
    loop_arm(job->loop, &job->timer, ns);
    block_job_rest(job);
}

/* ---- what is wanted of it, and how far it is ------------------------------------------------- */

void block_job_begin(struct block_job *job, uint64_t speed, struct loop *loop, struct loop *watcher,
                     void (*news)(struct loop_work *news))
{
    block_job_set(&job->len, 0);
    block_job_set(&job->offset, 0);
    block_job_set(&job->speed, speed);
    __atomic_store_n(&job->paused, false, __ATOMIC_RELAXED);
    __atomic_store_n(&job->cancelled, false, __ATOMIC_RELAXED);
    __atomic_store_n(&job->complete, false, __ATOMIC_RELAXED);
    __atomic_store_n(&job->stay, false, __ATOMIC_RELAXED);
    __atomic_store_n(&job->state, BLOCK_JOB_CREATED, __ATOMIC_RELAXED);
    job->loop = loop;
    job->watcher = watcher;
    job->woken.run = woken;
    job->news.run = news;
    job->timer.expired = time_is_up;
    job->debt = 0;
    job->debt_ns = 0;
    job->failure = BLOCK_JOB_NO_FAILURE;
}

void block_job_done(struct block_job *job)
{
    if (job->loop)
        loop_cancel(job->loop, &job->woken);
}

void block_job_let(struct block_job *job, bool *flag, bool value)
{
    __atomic_store_n(flag, value, __ATOMIC_RELAXED);
    loop_post(job->loop, &job->woken);
}

void block_job_set_speed(struct block_job *job, uint64_t speed)
{
    block_job_set(&job->speed, speed);
    loop_post(job->loop, &job->woken);
}

void block_job_enter(struct block_job *job, enum block_job_state state)
{
    __atomic_store_n(&job->state, state, __ATOMIC_RELAXED);
    loop_post(job->watcher, &job->news);
}

/* ---- speed ----------------------------------------------------------------------------------- */

/* How long it is until what was moved is paid for; 0: it is. */
static uint64_t reckon(struct block_job *job)
{
    double speed = (double)block_job_get(&job->speed);
    uint64_t now = monotonic_ns();
    double paid = (double)(now - job->debt_ns) / (double)NS_PER_S * speed;
    double rest_s;

    job->debt_ns = now;
    job->debt = job->debt - paid < -CREDIT_S * speed ? -CREDIT_S * speed : job->debt - paid;
    if (speed == 0)
        job->debt = 0;
    if (job->debt <= 0)
        return 0;
    rest_s = job->debt / speed;
    return 1 + (uint64_t)((rest_s > REST_MAX_S ? REST_MAX_S : rest_s) * (double)NS_PER_S);
}

int block_job_step(struct block_job *job, uint64_t offset, uint64_t moved)
{
    block_job_set(&job->offset, offset);
    co_give_way(max_u64(moved, TURN_MIN));
    (void)reckon(job); /* the time before this piece */
    job->debt += (double)moved;
    while (!block_job_is(&job->cancelled)) {
        uint64_t ns = reckon(job);

        if (block_job_is(&job->paused))
            block_job_rest(job);
        else if (ns > 0)
            rest_for(job, ns);
        else
            return 0;
    }
    return -ECANCELED;
}
