/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/attached/balloon.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/clock.h"

/* A guest can change the size of its balloon as often as it likes. */
#define TELL_NS (1 * NS_PER_S)

/* Figures that are older are asked for again. */
#define STATS_NS (1 * NS_PER_S)

struct balloon {
    struct attached attached;
    struct loop *main;
    struct loop *loop;      /* of its device */
    struct virtio_dev *dev; /* NULL: no guest is there */
    uint64_t memory;        /* bytes of RAM */
    uint64_t target;        /* bytes that guests shall do without */

    struct loop_work resized;
    struct loop_timer silence; /* armed: clients were told, and wait for the next time */
    bool missed;               /* something changed meanwhile */
    void (*changed)(void *opaque);
    void *opaque;
};

/* ---- changes --------------------------------------------------------------------------------- */

static void tell(struct balloon *balloon)
{
    if (!balloon->changed)
        return;
    balloon->missed = balloon->silence.loop != NULL;
    if (balloon->missed)
        return;
    loop_arm(balloon->main, &balloon->silence, TELL_NS);
    balloon->changed(balloon->opaque);
}

static void on_silence_over(struct loop_timer *timer)
{
    struct balloon *balloon = container_of(timer, struct balloon, silence);

    if (balloon->missed)
        tell(balloon);
}

static void on_resized(struct loop_work *work)
{
    tell(container_of(work, struct balloon, resized));
}

/* A vCPU thread. */
static void note_resized(void *opaque)
{
    struct balloon *balloon = opaque;

    loop_post(balloon->main, &balloon->resized);
}

/* ---- guests ---------------------------------------------------------------------------------- */

static void forget_device(void *opaque)
{
    struct balloon *balloon = opaque;

    balloon->dev = NULL;
}

static int make_device(struct attached *attached, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev, struct err *err)
{
    struct balloon *balloon = container_of(attached, struct balloon, attached);
    const struct virtio_balloon_options options = {
        .loop = balloon->loop,
        .target = balloon->target,
        .resized = note_resized,
        .freed = forget_device,
        .opaque = balloon,
    };
    int r = virtio_balloon_new(&options, mem, &balloon->dev);

    if (r < 0)
        return err_set_errno(err, r, "balloon: cannot make its device");
    *ret_dev = balloon->dev;
    return 0;
}

static void close_balloon(struct attached *attached)
{
    struct balloon *balloon = container_of(attached, struct balloon, attached);

    loop_cancel(balloon->main, &balloon->resized);
    loop_disarm(&balloon->silence);
    free(balloon);
}

static const struct attached_ops balloon_ops = {
    .make_device = make_device,
    .close = close_balloon,
};

int balloon_attach(struct attachments *attachments, struct err *err)
{
    struct balloon *balloon;
    int r = -ENOMEM;

    if (!attachments->config->balloon)
        return 0;
    balloon = calloc(1, sizeof(*balloon));
    if (!balloon)
        return err_set(err, -ENOMEM, "out of memory");
    balloon->attached.ops = &balloon_ops;
    balloon->main = attachments->main;
    balloon->memory = attachments->config->memory;
    balloon->resized.run = on_resized;
    balloon->silence.expired = on_silence_over;
    balloon->loop = attachments_loop(attachments, err);
    if (balloon->loop)
        r = attachments_add(attachments, &balloon->attached, err);
    if (r < 0)
        free(balloon);
    else
        attachments->balloon = balloon;
    return r;
}

/* ---- for clients ----------------------------------------------------------------------------- */

void balloon_watch(struct balloon *balloon, void (*changed)(void *opaque), void *opaque)
{
    balloon->changed = changed;
    balloon->opaque = opaque;
}

void balloon_set_memory(struct balloon *balloon, uint64_t memory)
{
    balloon->target = balloon->memory - min_u64(memory, balloon->memory);
    if (balloon->dev)
        virtio_balloon_set_target(balloon->dev, balloon->target);
}

uint64_t balloon_get_memory(const struct balloon *balloon)
{
    uint64_t size = balloon->dev ? virtio_balloon_size(balloon->dev) : 0;

    return balloon->memory - min_u64(size, balloon->memory);
}

bool balloon_get_stats(struct balloon *balloon, struct virtio_balloon_stats *ret_stats)
{
    if (!balloon->dev)
        return false;
    virtio_balloon_get_stats(balloon->dev, ret_stats);
    if (monotonic_ns() - ret_stats->told_ns >= STATS_NS)
        virtio_balloon_ask_stats(balloon->dev);
    return ret_stats->told_ns != 0;
}

/* QEMU's names where it has one. The kernel headers of Debian 12 end with the tenth. */
const char *balloon_stat_name(unsigned tag)
{
    static const char names[VIRTIO_BALLOON_NSTATS][24] = {
        "stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
        "stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
        "stat-htlb-pgalloc", "stat-htlb-pgfail",  "stat-oom-kill",         "stat-alloc-stall",
        "stat-scan-async",   "stat-scan-direct",  "stat-reclaim-async",    "stat-reclaim-direct",
    };

    return names[tag];
}
