/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk_failure.h"

#include "base/bytes.h"
#include "base/clock.h"

/* A guest can make its disk fail as often as it likes, and nobody wants to know each time. */
#define QUIET_NS NS_PER_S

static void on_work(struct loop_work *work)
{
    struct disk_failures *failures = container_of(work, struct disk_failures, work);
    struct virtio_blk_failure failure;

    pthread_mutex_lock(&failures->lock);
    failure = failures->failure;
    failures->pending = false;
    pthread_mutex_unlock(&failures->lock);
    if (!failure.kept && failures->told_ns && monotonic_ns() - failures->told_ns < QUIET_NS)
        return;
    failures->told_ns = monotonic_ns();
    failures->tell(failures, &failure);
}

void disk_failures_init(struct disk_failures *failures, struct loop *loop,
                        void (*tell)(struct disk_failures *failures,
                                     const struct virtio_blk_failure *failure))
{
    *failures = (struct disk_failures){.loop = loop, .tell = tell, .work.run = on_work};
    pthread_mutex_init(&failures->lock, NULL);
}

void disk_failures_done(struct disk_failures *failures)
{
    loop_cancel(failures->loop, &failures->work);
    pthread_mutex_destroy(&failures->lock);
}

/* One that was kept in an earlier round may be tried again by now. */
static bool matters_more(const struct virtio_blk_failure *failure,
                         const struct virtio_blk_failure *than)
{
    return failure->kept && (!than->kept || failure->round != than->round);
}

void disk_failures_note(void *opaque, const struct virtio_blk_failure *failure)
{
    struct disk_failures *failures = opaque;

    pthread_mutex_lock(&failures->lock);
    if (!failures->pending || matters_more(failure, &failures->failure))
        failures->failure = *failure;
    failures->pending = true;
    pthread_mutex_unlock(&failures->lock);
    loop_post(failures->loop, &failures->work);
}
