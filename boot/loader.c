#include "boot/loader.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/thread.h"

/*
 * Measured with a 14 MB kernel on two CPUs: 5.2 ms with one thread, 2.9 ms with two, 2.6 ms when
 * the pages are also populated in one call instead of by a fault for each. Smaller pieces cost
 * more calls, larger ones leave a thread idle at the end.
 */
#define LOADER_THREADS_MAX 2
#define LOADER_PIECE MIB

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct queue {
    const struct load *loads;
    size_t npieces;
    size_t next; /* index of the next piece; atomic */
};

struct worker {
    struct queue *queue;
    pthread_t thread;
    int result;
    struct err err;
};

static size_t count_pieces(const struct load *load)
{
    return div_round_up(load->len, LOADER_PIECE);
}

/* A hint: where the kernel is too old for it, the read faults the pages in one by one. */
static void populate(uint8_t *dst, size_t len)
{
    const uintptr_t page = 4096;
    uintptr_t start = align_down((uintptr_t)dst, page);
    uintptr_t end = align_up((uintptr_t)dst + len, page);

    (void)madvise((void *)start, end - start, MADV_POPULATE_WRITE);
}

static int load_piece(const struct queue *queue, size_t piece, struct err *err)
{
    const struct load *load = queue->loads;
    uint64_t off;
    size_t len;
    int r;

    for (; piece >= count_pieces(load); load++)
        piece -= count_pieces(load);
    off = piece * LOADER_PIECE;
    len = min_u64(LOADER_PIECE, load->len - off);
    populate(load->dst + off, len);
    r = boot_file_read(load->file, load->off + off, load->dst + off, len, err);
    if (r < 0)
        err_prefix(err, "%s", load->file->path);
    return r;
}

static void *work(void *opaque)
{
    struct worker *worker = opaque;
    struct queue *queue = worker->queue;

    while (worker->result == 0) {
        size_t piece = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);

        if (piece >= queue->npieces)
            break;
        worker->result = load_piece(queue, piece, &worker->err);
    }
    return NULL;
}

static size_t count_cpus(void)
{
    cpu_set_t set;

    /* It fails where there are more CPUs than the set can hold. */
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return LOADER_THREADS_MAX;
    return (size_t)CPU_COUNT(&set);
}

int loader_run(const struct load *loads, size_t nloads, struct err *err)
{
    struct queue queue = {.loads = loads};
    struct worker workers[LOADER_THREADS_MAX] = {0};
    size_t wanted, nthreads = 1;

    for (size_t i = 0; i < nloads; i++)
        queue.npieces += count_pieces(&loads[i]);
    wanted = min_u64(min_u64(count_cpus(), queue.npieces), LOADER_THREADS_MAX);

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
