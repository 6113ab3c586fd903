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

/* Is it still too early, so long after a piece began to be paid for? */
static bool is_early(const struct block_job *job, uint64_t moved, uint64_t since_ns)
{
    uint64_t speed = block_job_get(&job->speed);

    return speed > 0 && (double)since_ns / (double)NS_PER_S < (double)moved / (double)speed;
}

int block_job_step(struct block_job *job, struct block *block, uint64_t offset, uint64_t moved)
{
    const uint64_t begin_ns = monotonic_ns();

    block_job_set(&job->offset, offset);
    co_give_way(max_u64(moved, TURN_MIN));
    while (!block_job_is(&job->cancelled) &&
           (block_job_is(&job->paused) || is_early(job, moved, monotonic_ns() - begin_ns)))
        aio_sleep(block->aio, NAP_MS);
    return block_job_is(&job->cancelled) ? -ECANCELED : 0;
}
