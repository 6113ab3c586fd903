/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"
#include "base/log.h"
#include "devices/virtio/virtio_rings.h"

/*
 * The specification numbers the queue for reports 4, and the one before it belongs to a feature
 * that is not offered. Drivers, Linux among them, do not count queues that are not there, so each
 * from the first that may be it is taken for it.
 */
#define QUEUES 5u
#define STATS_QUEUE 2u /* where the driver wants statistics */

/*
 * Work in a round of the loop, in pages that go back: a range costs as much as RANGE_PAGES of them
 * on top, for the call and for what the processors must forget. So a round takes some milliseconds
 * with ranges of one page, and gives back 64 MiB in long ones.
 */
#define ROUND_PAGES 16384u
#define RANGE_PAGES 16u

/* Page numbers that are copied from a list at a time. */
#define PFNS_AT_ONCE 256u

/* Statistics in one buffer that are looked at: more than there are. */
#define STATS_MAX 64u

struct virtio_balloon;

/* A chain that is worked on, and how much of it is done: bytes of the list or the ranges. */
struct job {
    const struct virtq_chain *chain;
    uint64_t done;
};

/* Owner: the loop's thread. */
struct balloon_queue {
    /*
     * Work on a chain, and take the cost off the budget. Returns false when that is used up: the
     * chain is not done.
     */
    bool (*work_on)(struct virtio_balloon *balloon, struct job *job, int64_t *budget);
    struct virtq_chain *begun; /* copy of a chain that a round left off; NULL: none */
    uint64_t done;             /* of that one */
};

struct virtio_balloon {
    struct virtio_rings rings;
    struct virtio_balloon_options options;
    uint32_t num_pages;  /* target; atomic, any thread */
    uint32_t actual;     /* as the driver wrote it; atomic, vCPU threads write */
    uint32_t poison_val; /* the same */

    struct loop_work ask;
    bool wanted;    /* owner: loop thread; figures are asked for */
    bool has_stats; /* owner: loop thread; a buffer of the driver is held to ask by */
    uint16_t stats_head;
    pthread_mutex_t stats_lock; /* guards the next */
    struct virtio_balloon_stats stats;

    struct balloon_queue queues[QUEUES];
};

static struct virtio_balloon *balloon_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_balloon, rings.dev);
}

static bool has_feature(const struct virtio_balloon *balloon, unsigned bit)
{
    return balloon->rings.dev.features & VIRTIO_FEATURE(bit);
}

/* ---- the balloon itself ---------------------------------------------------------------------- */

/* Pages one after another. */
struct run {
    uint64_t begin;
    uint64_t end;
};

static void give_back(struct virtio_balloon *balloon, const struct run *run, int64_t *budget)
{
    const uint64_t npages = run->end - run->begin;
    void *host;

    if (npages == 0)
        return;
    *budget -= (int64_t)(npages + RANGE_PAGES);
    if (guest_mem_at(balloon->rings.dev.mem, run->begin * VIRTIO_BALLOON_PAGE,
                     npages * VIRTIO_BALLOON_PAGE, &host) < 0) {
        log_guest(LOG_WARN, "virtio-balloon: page %#llx is outside of memory",
                  (unsigned long long)run->begin);
        return;
    }
    guest_mem_discard(balloon->rings.dev.mem, host, npages * VIRTIO_BALLOON_PAGE);
}

/* Drivers list pages in the order in which they got them, often from high to low ones. */
static bool extend(struct run *run, uint32_t pfn)
{
    if (pfn == run->end) {
        run->end++;
        return true;
    }
    if (pfn + 1ull == run->begin) {
        run->begin--;
        return true;
    }
    return false;
}

/* A list of page numbers; half of one at its end is none. */
static bool inflate(struct virtio_balloon *balloon, struct job *job, int64_t *budget)
{
    const struct virtq_chain *chain = job->chain;
    uint32_t pfns[PFNS_AT_ONCE];
    struct run run = {0};

    while (*budget > 0) {
        size_t n =
            iov_to_buf(chain->iov, chain->nout, job->done, pfns, sizeof(pfns)) / sizeof(pfns[0]);

        if (n == 0) {
            give_back(balloon, &run, budget);
            return true;
        }
        job->done += n * sizeof(pfns[0]);
        *budget -= (int64_t)n;
        for (size_t i = 0; i < n; i++) {
            uint32_t pfn = le32toh(pfns[i]);

            if (run.begin < run.end && extend(&run, pfn))
                continue;
            give_back(balloon, &run, budget);
            run = (struct run){.begin = pfn, .end = pfn + 1ull};
        }
    }
    give_back(balloon, &run, budget);
    return false;
}

/* The guest touches what it takes back, and the host provides it then. */
static bool deflate(struct virtio_balloon *balloon, struct job *job, int64_t *budget)
{
    return true;
}

/*
 * Ranges that are free, as the writable buffers of a chain. A guest that fills its free pages with
 * something other than zeroes would miss that in them (5.5.6.7.2).
 */
static bool report(struct virtio_balloon *balloon, struct job *job, int64_t *budget)
{
    const struct virtq_chain *chain = job->chain;
    uint64_t before = 0; /* bytes of the buffers before this one */

    if (has_feature(balloon, VIRTIO_BALLOON_F_PAGE_POISON) &&
        __atomic_load_n(&balloon->poison_val, __ATOMIC_RELAXED) != 0)
        return true;
    for (unsigned i = chain->nout; i < chain->nout + chain->nin; i++) {
        const struct iovec *iov = &chain->iov[i];

        while (job->done < before + iov->iov_len) {
            uint64_t off = job->done - before;
            uint64_t len = min_u64(iov->iov_len - off, ROUND_PAGES * (uint64_t)VIRTIO_BALLOON_PAGE);

            if (*budget <= 0)
                return false;
            guest_mem_discard(balloon->rings.dev.mem, (uint8_t *)iov->iov_base + off, len);
            job->done += len;
            *budget -= (int64_t)(len / VIRTIO_BALLOON_PAGE + RANGE_PAGES);
        }
        before += iov->iov_len;
    }
    return true;
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* Of a tag that is there twice the last counts; unknown ones are left out. */
static void take_stats(struct virtio_balloon *balloon, const struct virtq_chain *chain)
{
    struct virtio_balloon_stat told[STATS_MAX];
    size_t n = iov_to_buf(chain->iov, chain->nout, 0, told, sizeof(told)) / sizeof(told[0]);
    struct virtio_balloon_stats stats = {.told_ns = monotonic_ns()};

    for (size_t i = 0; i < n; i++) {
        uint16_t tag = le16toh(told[i].tag);

        if (tag >= VIRTIO_BALLOON_NSTATS)
            continue;
        stats.known |= 1u << tag;
        stats.value[tag] = le64toh(told[i].val);
    }
    pthread_mutex_lock(&balloon->stats_lock);
    balloon->stats = stats;
    pthread_mutex_unlock(&balloon->stats_lock);
}

/* The driver's buffer stays here until figures are wanted (5.5.6.3): it answers with new ones. */
static void give_stats_back(struct virtio_balloon *balloon, struct virtio_ring *ring)
{
    if (balloon->has_stats)
        virtq_push(ring->vq, balloon->stats_head, 0);
    balloon->has_stats = false;
}

/*
 * A driver has one buffer; of one that has more, the newest is held. Wishes from before there is
 * one, or of the time of a pause, are one wish.
 */
static void work_on_stats(struct virtio_balloon *balloon, struct virtio_ring *ring)
{
    const struct virtq_chain *chain;

    if (balloon->wanted && balloon->has_stats) {
        give_stats_back(balloon, ring);
        balloon->wanted = false;
    }
    while ((chain = virtio_ring_next(ring))) {
        give_stats_back(balloon, ring);
        take_stats(balloon, chain);
        balloon->stats_head = chain->head;
        balloon->has_stats = true;
        if (balloon->wanted)
            virtio_ring_again(ring);
    }
}

/* Of a ring that runs: without one, features may be changing. */
static bool is_for_stats(const struct virtio_balloon *balloon, const struct virtio_ring *ring)
{
    return ring->index == STATS_QUEUE && has_feature(balloon, VIRTIO_BALLOON_F_STATS_VQ);
}

static void ask(struct loop_work *work)
{
    struct virtio_balloon *balloon = container_of(work, struct virtio_balloon, ask);
    struct virtio_ring *ring = &balloon->rings.all[STATS_QUEUE];

    balloon->wanted = true;
    if (virtio_ring_runs(ring) && is_for_stats(balloon, ring))
        virtio_ring_again(ring);
}

/* ---- running queues: the loop's thread ------------------------------------------------------- */

static struct virtio_balloon *balloon_of_ring(const struct virtio_ring *ring)
{
    return container_of(ring->rings, struct virtio_balloon, rings);
}

/* The rest of a chain for which there is no memory is dropped: its pages stay with the guest. */
static bool leave_off(struct balloon_queue *queue, const struct job *job)
{
    const struct virtq_chain *chain = job->chain;

    queue->done = job->done;
    if (queue->begun == chain)
        return true;
    queue->begun = malloc(sizeof(*queue->begun));
    if (!queue->begun)
        return false;
    memcpy(queue->begun, chain,
           offsetof(struct virtq_chain, iov) + (chain->nout + chain->nin) * sizeof(chain->iov[0]));
    return true;
}

static void forget_begun(struct balloon_queue *queue)
{
    free(queue->begun);
    queue->begun = NULL;
}

/* False: the chain is left off for this round. */
static bool finish(struct virtio_ring *ring, struct job *job, int64_t *budget)
{
    struct virtio_balloon *balloon = balloon_of_ring(ring);
    struct balloon_queue *queue = &balloon->queues[ring->index];

    if (!queue->work_on(balloon, job, budget) && leave_off(queue, job))
        return false;
    virtq_push(ring->vq, job->chain->head, 0);
    forget_begun(queue);
    return true;
}

static void work(struct virtio_ring *ring)
{
    struct virtio_balloon *balloon = balloon_of_ring(ring);
    struct balloon_queue *queue = &balloon->queues[ring->index];
    struct job job = {.chain = queue->begun, .done = queue->done};
    int64_t budget = ROUND_PAGES;

    if (is_for_stats(balloon, ring)) {
        work_on_stats(balloon, ring);
        return;
    }
    while (budget > 0) {
        if (!job.chain)
            job = (struct job){.chain = virtio_ring_next(ring)};
        if (!job.chain)
            return;
        if (!finish(ring, &job, &budget))
            break;
        job.chain = NULL;
    }
    virtio_ring_again(ring);
}

/* What is held waits for the end of a pause; after a stop it is the driver's again. */
static void rest(struct virtio_ring *ring)
{
    struct virtio_balloon *balloon = balloon_of_ring(ring);

    if (virtio_ring_is_started(ring))
        return;
    forget_begun(&balloon->queues[ring->index]);
    if (ring->index == STATS_QUEUE)
        balloon->has_stats = false;
}

/* ---- virtio_ops ------------------------------------------------------------------------------ */

static uint64_t balloon_features(struct virtio_dev *dev)
{
    return VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ) |
           VIRTIO_FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
           VIRTIO_FEATURE(VIRTIO_BALLOON_F_PAGE_POISON) |
           VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING);
}

static void set_actual(struct virtio_balloon *balloon, uint32_t npages)
{
    if (__atomic_exchange_n(&balloon->actual, npages, __ATOMIC_RELAXED) != npages)
        balloon->options.resized(balloon->options.opaque);
}

static void balloon_features_ok(struct virtio_dev *dev)
{
    struct virtio_balloon *balloon = balloon_of(dev);

    virtio_rings_features_ok(dev);
    __atomic_store_n(&balloon->poison_val, 0, __ATOMIC_RELAXED);
    set_actual(balloon, 0); /* what another driver had in the balloon is this one's again */
}

static void balloon_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    struct virtio_balloon *balloon = balloon_of(dev);
    const struct virtio_balloon_config config = {
        .num_pages = htole32(__atomic_load_n(&balloon->num_pages, __ATOMIC_RELAXED)),
        .actual = htole32(__atomic_load_n(&balloon->actual, __ATOMIC_RELAXED)),
        .poison_val = htole32(__atomic_load_n(&balloon->poison_val, __ATOMIC_RELAXED)),
    };

    virtio_config_copy(&config, sizeof(config), off, buf, len);
}

/* The driver writes whole fields (4.2.2.2). */
static void balloon_config_write(struct virtio_dev *dev, uint32_t off, const void *buf,
                                 uint32_t len)
{
    struct virtio_balloon *balloon = balloon_of(dev);
    uint32_t value;

    if (len != sizeof(value))
        return;
    value = load_le32(buf);
    if (off == offsetof(struct virtio_balloon_config, poison_val))
        __atomic_store_n(&balloon->poison_val, value, __ATOMIC_RELAXED);
    else if (off == offsetof(struct virtio_balloon_config, actual))
        set_actual(balloon, value);
}

static void leave_loop(void *opaque)
{
    struct virtio_balloon *balloon = opaque;

    loop_cancel(balloon->options.loop, &balloon->ask);
}

static void balloon_free(struct virtio_dev *dev)
{
    struct virtio_balloon *balloon = balloon_of(dev);

    balloon->options.freed(balloon->options.opaque);
    loop_call(balloon->options.loop, leave_loop, balloon);
    virtio_rings_done(&balloon->rings);
    pthread_mutex_destroy(&balloon->stats_lock);
    free(balloon);
}

static const struct virtio_ops virtio_balloon_ops = {
    .name = "virtio-balloon",
    .device_id = VIRTIO_ID_BALLOON,
    .features = balloon_features,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .features_ok = balloon_features_ok,
    .queue_start = virtio_rings_queue_start,
    .queue_stop = virtio_rings_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = balloon_free,
};

/* ---- for the host ---------------------------------------------------------------------------- */

static uint32_t pages_of(const struct virtio_balloon *balloon, uint64_t bytes)
{
    bytes = min_u64(bytes, guest_mem_size(balloon->rings.dev.mem));
    return (uint32_t)min_u64(bytes / VIRTIO_BALLOON_PAGE, UINT32_MAX);
}

void virtio_balloon_set_target(struct virtio_dev *dev, uint64_t target)
{
    struct virtio_balloon *balloon = balloon_of(dev);
    uint32_t num_pages = pages_of(balloon, target);

    if (__atomic_exchange_n(&balloon->num_pages, num_pages, __ATOMIC_RELAXED) != num_pages)
        dev->transport->notify_config(dev->transport);
}

uint64_t virtio_balloon_size(struct virtio_dev *dev)
{
    struct virtio_balloon *balloon = balloon_of(dev);

    return min_u64(__atomic_load_n(&balloon->actual, __ATOMIC_RELAXED) *
                       (uint64_t)VIRTIO_BALLOON_PAGE,
                   guest_mem_size(dev->mem));
}

void virtio_balloon_get_stats(struct virtio_dev *dev, struct virtio_balloon_stats *ret_stats)
{
    struct virtio_balloon *balloon = balloon_of(dev);

    pthread_mutex_lock(&balloon->stats_lock);
    *ret_stats = balloon->stats;
    pthread_mutex_unlock(&balloon->stats_lock);
}

void virtio_balloon_ask_stats(struct virtio_dev *dev)
{
    struct virtio_balloon *balloon = balloon_of(dev);

    loop_post(balloon->options.loop, &balloon->ask);
}

/* ---- setting up ------------------------------------------------------------------------------ */

static void init_queues(struct virtio_balloon *balloon)
{
    for (unsigned i = 0; i < QUEUES; i++)
        balloon->queues[i].work_on = report;
    balloon->queues[0].work_on = inflate;
    balloon->queues[1].work_on = deflate;
}

int virtio_balloon_new(const struct virtio_balloon_options *options, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
    int r;

    if (!balloon)
        return -ENOMEM;
    balloon->rings = (struct virtio_rings){
        .loop = options->loop,
        .work = work,
        .rest = rest,
    };
    r = virtio_rings_init(&balloon->rings, &virtio_balloon_ops, mem, QUEUES);
    if (r < 0) {
        free(balloon);
        return r;
    }
    init_queues(balloon);
    balloon->options = *options;
    balloon->num_pages = pages_of(balloon, options->target);
    balloon->ask.run = ask;
    pthread_mutex_init(&balloon->stats_lock, NULL);
    *ret_dev = &balloon->rings.dev;
    return 0;
}
