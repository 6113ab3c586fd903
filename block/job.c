/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "block/driver.h"

/* Nobody who changes his mind waits for longer. */
#define NAP_MS 50u

/* What a step counts for that moved nothing: it looked at tables. */
#define TURN_MIN (64u << 10)

/* Time that was not used may be made up for, up to so much: naps are longer than asked for. */
#define CREDIT_S 0.05

/* How long it is until what was moved is paid for; 0: it is. */
static unsigned reckon(struct block_job *job)
{
    double speed = (double)block_job_get(&job->speed);
    uint64_t now = monotonic_ns();
    double paid = (double)(now - job->debt_ns) / (double)NS_PER_S * speed;

    job->debt_ns = now;
    job->debt = job->debt - paid < -CREDIT_S * speed ? -CREDIT_S * speed : job->debt - paid;
    if (speed == 0)
        job->debt = 0;
    if (job->debt <= 0)
        return 0;
    return job->debt / speed * 1000 >= NAP_MS ? NAP_MS : 1 + (unsigned)(job->debt / speed * 1000);
}

int block_job_step(struct block_job *job, struct block *block, uint64_t offset, uint64_t moved)
{
    block_job_set(&job->offset, offset);
    co_give_way(max_u64(moved, TURN_MIN));
    (void)reckon(job); /* the time before this piece */
    job->debt += (double)moved;
    while (!block_job_is(&job->cancelled)) {
        unsigned ms = reckon(job);

        if (block_job_is(&job->paused))
            ms = NAP_MS;
        if (ms == 0)
            break;
        aio_sleep(block->aio, ms);
    }
    return block_job_is(&job->cancelled) ? -ECANCELED : 0;
}
