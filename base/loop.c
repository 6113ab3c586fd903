/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

/* Descriptors served in one round; the others are served in the next. */
#define LOOP_EVENTS_MAX 16

struct loop {
    int epoll_fd;
    struct loop_fd wake; /* eventfd: ends epoll_wait for `posted` and `stop` */
    struct list timers;  /* ascending by deadline */

    /* What epoll returned in this round; entries from next_event on are still to be served. */
    struct epoll_event events[LOOP_EVENTS_MAX];
    int nevents;
    int next_event;

    bool (*before_sleep)(void *opaque);
    void *before_sleep_opaque;
    enum loop_slept (*sleep)(void *opaque, int epoll_fd, int timeout_ms);
    void *sleep_opaque;

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t call_done;
    struct list posted;
    bool stop;
    /*
     * Whoever adds to `posted` or sets `stop` need not write the eventfd: the loop is going to look
     * again before it sleeps, or somebody has written already.
     */
    bool awake;
    bool running;
    pthread_t thread; /* valid while running */
};

static void drain_wake(struct loop_fd *watch, uint32_t events)
{
    eventfd_t count;

    /* EAGAIN is fine: the reason for the wake-up is looked up under the lock, not counted here. */
    (void)eventfd_read(watch->fd, &count);
}

int loop_new(struct loop **ret_loop)
{
    struct loop *loop;
    int r;

    loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    list_init(&loop->timers);
    list_init(&loop->posted);
    loop->awake = true; /* loop_run looks before it sleeps for the first time */

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        r = -errno;
        goto free_loop;
    }
    loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake.fd < 0) {
        r = -errno;
        goto close_epoll;
    }
    loop->wake.events = EPOLLIN;
    loop->wake.ready = drain_wake;
    r = loop_add_fd(loop, &loop->wake);
    if (r < 0)
        goto close_wake;

    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->call_done, NULL);
    *ret_loop = loop;
    return 0;

close_wake:
    close(loop->wake.fd);
close_epoll:
    close(loop->epoll_fd);
free_loop:
    free(loop);
    return r;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    assert(list_is_empty(&loop->timers));
    assert(list_is_empty(&loop->posted));
    pthread_cond_destroy(&loop->call_done);
    pthread_mutex_destroy(&loop->lock);
    close(loop->wake.fd);
    close(loop->epoll_fd);
    free(loop);
}

/* ---- file descriptors ------------------------------------------------------------------------ */

int loop_add_fd(struct loop *loop, struct loop_fd *watch)
{
    struct epoll_event event = {.events = watch->events, .data.ptr = watch};

    assert(!watch->loop);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0)
        return -errno;
    watch->loop = loop;
    return 0;
}

int loop_set_events(struct loop_fd *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    if (events == watch->events)
        return 0;
    if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
        return -errno;
    watch->events = events;
    return 0;
}

void loop_remove_fd(struct loop_fd *watch)
{
    struct loop *loop = watch->loop;

    if (!loop)
        return;
    /* Fails only for a descriptor that is closed already, which epoll has forgotten then. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->loop = NULL;

    /* The caller may free the watch now: what this round still holds for it must go, too. */
    for (int i = loop->next_event; i < loop->nevents; i++) {
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
    }
}

static void serve_fds(struct loop *loop)
{
    while (loop->next_event < loop->nevents) {
        const struct epoll_event *event = &loop->events[loop->next_event++];
        struct loop_fd *watch = event->data.ptr;
        uint32_t events;

        if (!watch)
            continue;
        /* An earlier callback of this round may have lost interest. */
        events = event->events & (watch->events | EPOLLERR | EPOLLHUP);
        if (events)
            watch->ready(watch, events);
    }
}

/* ---- timers ---------------------------------------------------------------------------------- */

static struct loop_timer *timer_of(struct list *link)
{
    return container_of(link, struct loop_timer, link);
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t after_ns)
{
    struct list *pos = &loop->timers;

    loop_disarm(timer);
    if (!add_u64(monotonic_ns(), after_ns, &timer->deadline_ns))
        timer->deadline_ns = UINT64_MAX;

    /* From the end: most timers are armed to expire after those that are there. */
    while (pos->prev != &loop->timers && timer_of(pos->prev)->deadline_ns > timer->deadline_ns)
        pos = pos->prev;
    list_insert_before(pos, &timer->link);
    timer->loop = loop;
}

void loop_disarm(struct loop_timer *timer)
{
    if (!timer->loop)
        return;
    list_remove(&timer->link);
    timer->loop = NULL;
}

static void expire_timers(struct loop *loop)
{
    struct list *first;
    uint64_t now;

    if (list_is_empty(&loop->timers))
        return;
    now = monotonic_ns();
    while ((first = list_first(&loop->timers)) && timer_of(first)->deadline_ns <= now) {
        struct loop_timer *timer = timer_of(first);

        loop_disarm(timer);
        timer->expired(timer);
    }
}

/* Milliseconds until the first timer, rounded up so that it has expired then; -1: none. */
static int timers_timeout_ms(const struct loop *loop)
{
    struct list *first = list_first(&loop->timers);
    uint64_t deadline;
    uint64_t now;

    if (!first)
        return -1;
    deadline = timer_of(first)->deadline_ns;
    now = monotonic_ns();
    if (deadline <= now)
        return 0;
    return (int)min_u64(div_round_up(deadline - now, NS_PER_MS), INT_MAX);
}

/* ---- other threads --------------------------------------------------------------------------- */

/*
 * Holding the lock. The eventfd is written under it, so that a loop that has seen the reason may
 * be freed: no other thread is about to touch it.
 */
static void wake_up(struct loop *loop)
{
    if (loop->awake)
        return;
    loop->awake = true;
    (void)eventfd_write(loop->wake.fd, 1); /* fails only near 2^64, and is readable then */
}

void loop_post(struct loop *loop, struct loop_work *work)
{
    pthread_mutex_lock(&loop->lock);
    if (!work->queued) {
        work->queued = true;
        list_add_tail(&loop->posted, &work->link);
        wake_up(loop);
    }
    pthread_mutex_unlock(&loop->lock);
}

void loop_cancel(struct loop *loop, struct loop_work *work)
{
    pthread_mutex_lock(&loop->lock);
    if (work->queued) {
        work->queued = false;
        list_remove(&work->link);
    }
    pthread_mutex_unlock(&loop->lock);
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    wake_up(loop);
    pthread_mutex_unlock(&loop->lock);
}

/* Run what was posted until now; what is posted meanwhile waits, so that it cannot starve fds. */
static void run_posted(struct loop *loop)
{
    struct list batch;
    struct list *first;

    list_init(&batch);
    pthread_mutex_lock(&loop->lock);
    loop->awake = true;
    if (!list_is_empty(&loop->posted)) {
        /* Let `batch` take the place of the head in the ring. */
        list_insert_before(&loop->posted, &batch);
        list_remove(&loop->posted);
    }
    while ((first = list_first(&batch))) {
        struct loop_work *work = container_of(first, struct loop_work, link);

        list_remove(&work->link);
        work->queued = false;
        pthread_mutex_unlock(&loop->lock);
        work->run(work);
        pthread_mutex_lock(&loop->lock);
    }
    pthread_mutex_unlock(&loop->lock);
}

struct call {
    struct loop_work work;
    struct loop *loop;
    void (*fn)(void *opaque);
    void *opaque;
    bool done; /* owner: the loop's lock */
};

static void run_call(struct loop_work *work)
{
    struct call *call = container_of(work, struct call, work);
    struct loop *loop = call->loop;

    call->fn(call->opaque);

    pthread_mutex_lock(&loop->lock);
    call->done = true; /* `call` is on the caller's stack and gone once the lock is released */
    pthread_cond_broadcast(&loop->call_done);
    pthread_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
    struct call call = {.work.run = run_call, .loop = loop, .fn = fn, .opaque = opaque};
    bool own_thread;

    pthread_mutex_lock(&loop->lock);
    own_thread = loop->running && pthread_equal(loop->thread, pthread_self());
    pthread_mutex_unlock(&loop->lock);
    if (own_thread) {
        fn(opaque);
        return;
    }

    loop_post(loop, &call.work);
    pthread_mutex_lock(&loop->lock);
    while (!call.done)
        pthread_cond_wait(&loop->call_done, &loop->lock);
    pthread_mutex_unlock(&loop->lock);
}

/* ---- the loop -------------------------------------------------------------------------------- */

void loop_set_before_sleep(struct loop *loop, bool (*fn)(void *opaque), void *opaque)
{
    loop->before_sleep = fn;
    loop->before_sleep_opaque = opaque;
}

void loop_set_sleep(struct loop *loop,
                    enum loop_slept (*fn)(void *opaque, int epoll_fd, int timeout_ms), void *opaque)
{
    loop->sleep = fn;
    loop->sleep_opaque = opaque;
}

/*
 * Last look before sleeping. Returns false if the loop is to stop, and forgets that wish; else
 * *ret_busy says that there is work, so it must not sleep. From here on posts write the eventfd.
 */
static bool prepare_sleep(struct loop *loop, bool *ret_busy)
{
    bool stop;

    pthread_mutex_lock(&loop->lock);
    stop = loop->stop;
    loop->stop = false;
    *ret_busy = !list_is_empty(&loop->posted);
    loop->awake = stop || *ret_busy;
    pthread_mutex_unlock(&loop->lock);
    return !stop;
}

/* Sleep until something is ready or time is up. How many of `events` are filled, or -errno. */
static int wait_for_events(struct loop *loop, int timeout_ms)
{
    enum loop_slept slept = LOOP_SLEEP_IN_EPOLL;
    int n;

    if (loop->sleep)
        slept = loop->sleep(loop->sleep_opaque, loop->epoll_fd, timeout_ms);
    if (slept == LOOP_FDS_NOT_READY)
        return 0;
    n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS_MAX,
                   slept == LOOP_FDS_READY ? 0 : timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return n;
}

static int one_round(struct loop *loop, bool busy)
{
    int n = wait_for_events(loop, busy ? 0 : timers_timeout_ms(loop));

    if (n < 0)
        return n;
    loop->nevents = n;
    loop->next_event = 0;
    serve_fds(loop);
    loop->nevents = 0;
    loop->next_event = 0;
    expire_timers(loop);
    run_posted(loop);
    return 0;
}

static void set_running(struct loop *loop, bool running)
{
    pthread_mutex_lock(&loop->lock);
    loop->running = running;
    loop->thread = pthread_self();
    pthread_mutex_unlock(&loop->lock);
}

int loop_run(struct loop *loop)
{
    bool busy;
    int r = 0;

    set_running(loop, true);
    do {
        /* Before the look at `stop`, too: batched I/O of the last round is not left behind. */
        bool more = loop->before_sleep && loop->before_sleep(loop->before_sleep_opaque);

        if (!prepare_sleep(loop, &busy))
            break;
        r = one_round(loop, busy || more);
    } while (r == 0);
    set_running(loop, false);
    return r;
}
