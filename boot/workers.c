/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/workers.h"

#include <pthread.h>
#include <sched.h>

#include "base/bytes.h"
#include "base/thread.h"

/* More gain nothing: they wait for one another in the host's memory management. */
#define WORKERS_MAX 2

struct queue {
    workers_fn *fn;
    void *opaque;
    size_t npieces;
    size_t next; /* index of the next piece; atomic */
};

struct worker {
    struct queue *queue;
    pthread_t thread;
    int result;
    struct err err;
};

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct queue *queue = worker->queue;

    while (worker->result == 0) {
        size_t piece = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);

        if (piece >= queue->npieces)
            break;
        worker->result = queue->fn(queue->opaque, piece, &worker->err);
    }
    return NULL;
}

static size_t count_cpus(void)
{
    cpu_set_t set;

    /* It fails where there are more CPUs than the set can hold. */
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return WORKERS_MAX;
    return (size_t)CPU_COUNT(&set);
}

int workers_run(size_t n, workers_fn *fn, void *opaque, struct err *err)
{
    struct queue queue = {.fn = fn, .opaque = opaque, .npieces = n};
    struct worker workers[WORKERS_MAX] = {0};
    size_t wanted = min_u64(min_u64(count_cpus(), n), WORKERS_MAX);
    size_t nthreads = 1;

    /* The calling thread is the first worker. Without a second one it does all the work. */
    workers[0].queue = &queue;
    for (; nthreads < wanted; nthreads++) {
        workers[nthreads].queue = &queue;
        if (thread_start(&workers[nthreads].thread, "load", work, &workers[nthreads]) < 0)
            break;
    }
    work(&workers[0]);
    for (size_t i = 1; i < nthreads; i++)
        pthread_join(workers[i].thread, NULL);

    for (size_t i = 0; i < nthreads; i++)
        if (workers[i].result < 0)
            return err_set(err, workers[i].result, "%s", workers[i].err.msg);
    return 0;
}
