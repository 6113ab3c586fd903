/* SPDX-License-Identifier: Apache-2.0 */
#include "base/aio.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/aio_engine.h"
#include "base/aio_execute.h"
#include "base/aio_pool.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

struct aio {
    struct loop *loop;
    unsigned refs;    /* owner: registry_lock */
    struct list link; /* in the registry; owner: registry_lock */

    struct co_sched sched;
    struct list tasks;
    struct list sleepers;
    struct aio_engine *uring;   /* NULL: no image wants it, or the host has none */
    struct aio_engine *threads; /* NULL: no image needs it */
    struct aio_engine *compute; /* NULL: nothing was to be computed yet */
};

/* The loops that have a struct aio: few, and looked up only when an image is attached. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list registry = LIST_INIT(registry);

/* ---- one round ------------------------------------------------------------------------------- */

static bool run_tasks(struct aio *aio)
{
    struct list *first;
    bool any = false;

    while ((first = list_first(&aio->tasks))) {
        struct aio_task *task = container_of(first, struct aio_task, link);

        list_remove(first);
        task->queued = false;
        task->run(task);
        any = true;
    }
    return any;
}

static bool poll_engine(struct aio_engine *engine, bool wait)
{
    return engine && engine->ops->poll(engine, wait);
}

static bool run_ready(struct aio *aio)
{
    bool ran = co_sched_run(&aio->sched);

    return run_tasks(aio) || ran;
}

/*
 * Run all that can run. What the page cache answers at once is followed up at once, but only until
 * a coroutine gave way: the loop has to look after other things, too, while requests go on that
 * never have to wait for the host. Returns whether they do.
 */
static bool before_sleep(void *opaque)
{
    struct aio *aio = opaque;
    bool busy;

    co_sched_next_round(&aio->sched);
    do {
        busy = run_ready(aio);
        busy |= poll_engine(aio->uring, false);
        busy |= poll_engine(aio->threads, false);
        busy |= poll_engine(aio->compute, false);
    } while (busy && !co_sched_gave_way(&aio->sched));
    co_sched_trim(&aio->sched);
    return co_sched_gave_way(&aio->sched);
}

/* ---- sleeping -------------------------------------------------------------------------------- */

struct sleeper {
    struct loop_timer timer;
    struct list link;
    struct co *co;
};

static void thread_sleep(uint64_t ns)
{
    const struct timespec pause = {.tv_sec = (time_t)(ns / NS_PER_S),
                                   .tv_nsec = (long)(ns % NS_PER_S)};

    (void)nanosleep(&pause, NULL); /* a signal makes it shorter, which does no harm */
}

static void wake_sleeper(struct loop_timer *timer)
{
    struct sleeper *sleeper = container_of(timer, struct sleeper, timer);

    loop_disarm(timer);
    list_remove(&sleeper->link);
    co_wake(sleeper->co);
}

void aio_sleep(struct aio *aio, unsigned ms)
{
    struct sleeper sleeper = {.timer.expired = wake_sleeper, .co = co_self()};

    if (!aio || !sleeper.co) {
        thread_sleep(ms * NS_PER_MS);
        return;
    }
    loop_arm(aio->loop, &sleeper.timer, ms * NS_PER_MS);
    list_add_tail(&aio->sleepers, &sleeper.link);
    co_suspend();
}

/* Of those that sleep, the one that is to be woken first. */
static struct sleeper *first_sleeper(const struct aio *aio)
{
    struct sleeper *first = NULL;

    list_for_each (item, &aio->sleepers) {
        struct sleeper *sleeper = container_of(item, struct sleeper, link);

        if (!first || sleeper->timer.deadline_ns < first->timer.deadline_ns)
            first = sleeper;
    }
    return first;
}

/*
 * Wake the first sleeper if it is time, as a timer would if the loop ran; with `wait`, sleep until
 * then. True: somebody was woken.
 */
static bool serve_sleepers(struct aio *aio, bool wait)
{
    struct sleeper *first = first_sleeper(aio);
    uint64_t now = monotonic_ns();

    if (!first || (first->timer.deadline_ns > now && !wait))
        return false;
    if (first->timer.deadline_ns > now)
        thread_sleep(first->timer.deadline_ns - now);
    wake_sleeper(&first->timer);
    return true;
}

/* ---- without the loop ------------------------------------------------------------------------ */

void aio_wait(struct aio *aio)
{
    struct aio_engine *const engines[] = {aio->uring, aio->threads, aio->compute};
    bool any;

    co_sched_next_round(&aio->sched);
    any = run_ready(aio);
    for (size_t i = 0; !any && i < ARRAY_SIZE(engines); i++)
        any = poll_engine(engines[i], false);
    if (!any)
        any = serve_sleepers(aio, false);

    /*
     * Wait for the first engine that has work. What the others finish meanwhile is taken
     * afterwards.
     */
    for (size_t i = 0; !any && i < ARRAY_SIZE(engines); i++)
        if (engines[i] && engines[i]->in_flight > 0)
            any = poll_engine(engines[i], true);
    if (!any)
        (void)serve_sleepers(aio, true);
}

/* ---- engines --------------------------------------------------------------------------------- */

static int start_threads(struct aio *aio, struct err *err)
{
    int r = aio->threads ? 0 : aio_threads_new(aio->loop, &aio->threads);

    return r < 0 ? err_set_errno(err, r, "cannot set up threads for disk I/O") : 0;
}

/* Made here and not by the first request, so that a refusal of the host is a failure of set-up. */
static int start_engine(struct aio *aio, enum aio_kind kind, struct err *err)
{
    int r;

    if (kind == AIO_THREADS)
        return start_threads(aio, err);
    r = aio->uring ? 0 : aio_uring_new(aio->loop, &aio->uring);
    if (r == 0)
        return kind == AIO_AUTO ? start_threads(aio, err) : 0;
    if (kind == AIO_URING)
        return err_set_errno(err, r,
                             "aio=io_uring: this host does not allow io_uring, expected "
                             "aio=threads");
    log_info("io_uring is not available (error %d): using threads for disk I/O", -r);
    return start_threads(aio, err);
}

/*
 * io_uring gives a write into the page cache to a thread of the kernel, since it may sleep. That
 * takes longer than waking one of ours, and is worth it where many operations share the system
 * call.
 */
static bool better_in_thread(const struct aio *aio, const struct file_io *io)
{
    return io->sleeps && aio->uring->in_flight + aio->threads->in_flight == 0;
}

/* io_uring has nothing that copies files. */
void aio_submit(struct aio *aio, enum aio_kind kind, struct file_io *io)
{
    bool threads = kind == AIO_THREADS || !aio->uring || io->op == FILE_COPY ||
                   (kind == AIO_AUTO && better_in_thread(aio, io));
    struct aio_engine *engine = threads ? aio->threads : aio->uring;

    if (!engine && start_threads(aio, NULL) == 0)
        engine = aio->threads;
    if (engine)
        engine->ops->submit(engine, io);
    else
        io->done(io, aio_execute(io));
}

/* ---- computing ------------------------------------------------------------------------------- */

/* More would each wait for memory, and for the loop's thread to feed them. */
#define COMPUTE_THREADS_MAX 64u

struct computation {
    struct list link;
    void (*fn)(void *opaque);
    void *opaque;
    struct co *co;
};

static void execute_computation(struct list *item)
{
    struct computation *computation = container_of(item, struct computation, link);

    computation->fn(computation->opaque);
}

static void finish_computation(struct list *item)
{
    co_wake(container_of(item, struct computation, link)->co);
}

static const struct aio_pool_ops compute_ops = {
    .name = "compute",
    .execute = execute_computation,
    .finish = finish_computation,
};

unsigned aio_processors(void)
{
    cpu_set_t cpus;

    /* It fails where there are more processors than fit the set, which is more than are of use. */
    if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
        return CPU_SETSIZE;
    return (unsigned)CPU_COUNT(&cpus);
}

static bool start_computing(struct aio *aio)
{
    unsigned max;

    if (aio->compute)
        return true;
    max = (unsigned)min_u64(aio_processors(), COMPUTE_THREADS_MAX);
    return aio_pool_new(aio->loop, &compute_ops, max, &aio->compute) == 0;
}

void aio_compute(struct aio *aio, void (*fn)(void *opaque), void *opaque)
{
    struct computation computation = {.fn = fn, .opaque = opaque, .co = co_self()};

    if (!computation.co || !start_computing(aio)) {
        fn(opaque);
        return;
    }
    aio_pool_queue(aio->compute, &computation.link);
    co_suspend();
}

/* ---- reference counting ---------------------------------------------------------------------- */

static struct aio *find(const struct loop *loop)
{
    list_for_each (item, &registry) {
        struct aio *aio = container_of(item, struct aio, link);

        if (aio->loop == loop)
            return aio;
    }
    return NULL;
}

static struct aio *find_or_make(struct loop *loop)
{
    struct aio *aio = find(loop);

    if (!aio) {
        aio = calloc(1, sizeof(*aio));
        if (!aio)
            return NULL;
        aio->loop = loop;
        co_sched_init(&aio->sched);
        list_init(&aio->tasks);
        list_init(&aio->sleepers);
        list_add_tail(&registry, &aio->link);
        loop_set_before_sleep(loop, before_sleep, aio);
    }
    aio->refs++;
    return aio;
}

int aio_get(struct loop *loop, enum aio_kind kind, struct aio **ret_aio, struct err *err)
{
    struct aio *aio;
    int r;

    pthread_mutex_lock(&registry_lock);
    aio = find_or_make(loop);
    pthread_mutex_unlock(&registry_lock);
    if (!aio)
        return err_set(err, -ENOMEM, "out of memory for disk I/O");

    r = start_engine(aio, kind, err);
    if (r < 0) {
        aio_put(aio);
        return r;
    }
    *ret_aio = aio;
    return 0;
}

static void aio_free(struct aio *aio)
{
    assert(list_is_empty(&aio->tasks));
    assert(list_is_empty(&aio->sleepers));
    loop_set_before_sleep(aio->loop, NULL, NULL);
    if (aio->uring)
        aio->uring->ops->free(aio->uring);
    if (aio->threads)
        aio->threads->ops->free(aio->threads);
    if (aio->compute)
        aio->compute->ops->free(aio->compute);
    co_sched_done(&aio->sched);
    free(aio);
}

void aio_put(struct aio *aio)
{
    bool last;

    if (!aio)
        return;
    pthread_mutex_lock(&registry_lock);
    last = --aio->refs == 0;
    if (last)
        list_remove(&aio->link);
    pthread_mutex_unlock(&registry_lock);
    if (last)
        aio_free(aio);
}

struct co_sched *aio_sched(struct aio *aio)
{
    return &aio->sched;
}

void aio_defer(struct aio *aio, struct aio_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    list_add_tail(&aio->tasks, &task->link);
}
