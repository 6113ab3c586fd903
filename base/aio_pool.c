/* SPDX-License-Identifier: Apache-2.0 */
#include "base/aio_pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"

/* A thread without work ends after this time, so that an idle VM has none. */
#define THREAD_IDLE_MS 2000u

/*
 * What the page cache answers keeps a processor busy and waits for no disk: more threads than this
 * are only in each other's way.
 */
#define CACHED_MAX 8u

struct pool {
    struct aio_engine engine;
    const struct aio_pool_ops *ops;
    unsigned max;         /* threads */
    struct loop_fd watch; /* eventfd: something was finished */
    struct list queued;   /* not handed to the threads yet */
    unsigned queued_max;  /* so many threads may be there for `queued` */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t work;  /* `todo` or `quit` changed */
    pthread_cond_t news;  /* `finished` or `nthreads` changed */
    struct list todo;
    struct list finished;
    unsigned ntodo;
    unsigned nthreads;
    unsigned nidle; /* threads that wait for work, or are about to look for it */
    bool quit;
};

static struct pool *of_engine(struct aio_engine *engine)
{
    return container_of(engine, struct pool, engine);
}

/* With the lock held. True: the loop has to be told, when the lock is free for it to take. */
static bool finish_locked(struct pool *pool, struct list *item)
{
    bool first = list_is_empty(&pool->finished);

    list_add_tail(&pool->finished, item);
    return first;
}

static void tell_loop(struct pool *pool)
{
    /* Cannot block: the loop would have to miss 2^64 - 2 of them. */
    (void)eventfd_write(pool->watch.fd, 1);
    pthread_cond_broadcast(&pool->news);
}

/* Sleep until there is something to do. False: end the thread. */
static bool wait_for_work(struct pool *pool)
{
    struct timespec deadline = clock_deadline(THREAD_IDLE_MS);
    bool timed_out = false;

    while (list_is_empty(&pool->todo) && !pool->quit && !timed_out)
        timed_out = pthread_cond_timedwait(&pool->work, &pool->lock, &deadline) == ETIMEDOUT;
    return !list_is_empty(&pool->todo);
}

static void *worker(void *arg)
{
    struct pool *pool = arg;

    (void)pthread_detach(pthread_self()); /* `nthreads` says when it is gone */
    pthread_mutex_lock(&pool->lock);
    pool->nidle++;
    while (wait_for_work(pool)) {
        struct list *item = list_first(&pool->todo);

        list_remove(item);
        pool->ntodo--;
        pool->nidle--;
        pthread_mutex_unlock(&pool->lock);
        pool->ops->execute(item);
        pthread_mutex_lock(&pool->lock);
        pool->nidle++;
        if (finish_locked(pool, item)) {
            pthread_mutex_unlock(&pool->lock);
            tell_loop(pool);
            pthread_mutex_lock(&pool->lock);
        }
    }
    pool->nidle--;
    pool->nthreads--;
    pthread_cond_broadcast(&pool->news);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void queue(struct pool *pool, struct list *item, unsigned max)
{
    pool->engine.in_flight++;
    list_add_tail(&pool->queued, item);
    pool->queued_max = (unsigned)max_u64(pool->queued_max, max);
}

/*
 * With the lock held: start a thread for `item`, the last one in `todo`, if it takes one more.
 * True: none could be started, the item was carried out, and the loop is to be told.
 */
static bool start_thread_for(struct pool *pool, struct list *item)
{
    pthread_t thread;

    if (pool->ntodo <= pool->nidle || pool->nthreads >= pool->queued_max)
        return false;
    if (thread_start(&thread, pool->ops->name, worker, pool) == 0) {
        pool->nthreads++;
        return false;
    }
    if (pool->nthreads > 0)
        return false;
    /* Nobody else would ever carry it out: be slow rather than fail. */
    list_remove(item);
    pool->ntodo--;
    pool->ops->execute(item);
    return finish_locked(pool, item);
}

/* Let the threads have all that was queued: the lock is taken once for all of it. */
static void hand_over(struct pool *pool)
{
    struct list *first;
    bool tell = false;
    unsigned wake;

    if (list_is_empty(&pool->queued))
        return;
    pthread_mutex_lock(&pool->lock);
    while ((first = list_first(&pool->queued))) {
        list_remove(first);
        list_add_tail(&pool->todo, first);
        pool->ntodo++;
        tell |= start_thread_for(pool, first);
    }
    pool->queued_max = 0;
    wake = (unsigned)min_u64(pool->ntodo, pool->nidle);
    pthread_mutex_unlock(&pool->lock);
    while (wake-- > 0)
        pthread_cond_signal(&pool->work);
    if (tell)
        tell_loop(pool);
}

static bool pool_poll(struct aio_engine *engine, bool wait)
{
    struct pool *pool = of_engine(engine);
    struct list finished = LIST_INIT(finished);
    struct list *first;
    bool any = false;

    if (engine->in_flight == 0)
        return false;
    hand_over(pool);
    pthread_mutex_lock(&pool->lock);
    while (wait && list_is_empty(&pool->finished))
        pthread_cond_wait(&pool->news, &pool->lock);
    while ((first = list_first(&pool->finished))) {
        list_remove(first);
        list_add_tail(&finished, first);
    }
    pthread_mutex_unlock(&pool->lock);

    while ((first = list_first(&finished))) {
        list_remove(first);
        engine->in_flight--;
        pool->ops->finish(first);
        any = true;
    }
    return any;
}

static void pool_free(struct aio_engine *engine)
{
    struct pool *pool = of_engine(engine);

    assert(engine->in_flight == 0);
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->work);
    while (pool->nthreads > 0)
        pthread_cond_wait(&pool->news, &pool->lock);
    pthread_mutex_unlock(&pool->lock);

    loop_remove_fd(&pool->watch);
    close(pool->watch.fd);
    pthread_cond_destroy(&pool->news);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/*
 * Only pools of file operations get any. They go to the threads together, when the engine is polled
 * before the loop sleeps.
 */
static void pool_submit(struct aio_engine *engine, struct file_io *io)
{
    struct pool *pool = of_engine(engine);

    queue(pool, &io->link, io->direct ? pool->max : (unsigned)min_u64(pool->max, CACHED_MAX));
}

void aio_pool_queue(struct aio_engine *engine, struct list *item)
{
    struct pool *pool = of_engine(engine);

    queue(pool, item, pool->max);
    hand_over(pool);
}

static const struct aio_engine_ops engine_ops = {
    .submit = pool_submit,
    .poll = pool_poll,
    .free = pool_free,
};

/* What is finished is taken before the loop sleeps again; here the wake-up is acknowledged. */
static void pool_ready(struct loop_fd *watch, uint32_t events)
{
    eventfd_t count;

    (void)eventfd_read(watch->fd, &count);
}

/*
 * A thread that has finished something and the loop that takes it want the lock at the same moment,
 * each for less time than falling asleep takes.
 */
static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

int aio_pool_new(struct loop *loop, const struct aio_pool_ops *ops, unsigned max,
                 struct aio_engine **ret_engine)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    int r;

    if (!pool)
        return -ENOMEM;
    pool->engine.ops = &engine_ops;
    pool->ops = ops;
    pool->max = max;
    list_init(&pool->queued);
    list_init(&pool->todo);
    list_init(&pool->finished);

    pool->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->watch.fd < 0) {
        r = -errno;
        goto free_pool;
    }
    pool->watch.events = EPOLLIN;
    pool->watch.ready = pool_ready;
    r = loop_add_fd(loop, &pool->watch);
    if (r < 0)
        goto close_watch;

    init_lock(&pool->lock);
    clock_cond_init(&pool->work);
    clock_cond_init(&pool->news);
    *ret_engine = &pool->engine;
    return 0;

close_watch:
    close(pool->watch.fd);
free_pool:
    free(pool);
    return r;
}
