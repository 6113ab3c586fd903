/* SPDX-License-Identifier: Apache-2.0 */
#include "img/crew.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/bytes.h"

/*
 * Memory up to this is not given back while there is work: buffers come and go with every request,
 * and new ones would cost a page fault for each 4 KiB.
 */
#define KEPT_MEMORY (64 << 20)

/* Enough to keep a disk busy while others wait for it. */
#define CREW_MIN 8u

unsigned crew_size(void)
{
    return (unsigned)min_u64(max_u64(2ull * aio_processors(), CREW_MIN), CREW_MAX);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void io_done(struct block_req *req, int result)
{
    struct crew_worker *worker = container_of(req, struct crew_io, req)->worker;

    if (result < 0 && worker->result == 0)
        worker->result = result;
    worker->in_flight--;
    if (worker->in_flight == 0 && worker->waiter)
        co_wake(worker->waiter);
}

static void wait_for_all(struct crew_worker *worker)
{
    if (worker->in_flight > 0) {
        worker->waiter = co_self();
        co_suspend();
        worker->waiter = NULL;
    }
    worker->nios = 0;
}

int crew_wait(struct crew_worker *worker)
{
    int r;

    wait_for_all(worker);
    r = worker->result;
    worker->result = 0;
    return r;
}

void crew_submit(struct crew_worker *worker, struct block *block, const struct block_req *req,
                 void *buf)
{
    struct crew_io *io;

    if (worker->nios == CREW_IOS)
        wait_for_all(worker);
    io = &worker->ios[worker->nios++];
    io->worker = worker;
    io->req = *req;
    io->req.done = io_done;
    if (buf) {
        io->iov = (struct iovec){buf, req->len};
        io->req.iov = &io->iov;
        io->req.niov = 1;
    }
    worker->in_flight++;
    block_submit(block, &io->req);
}

int crew_read(struct crew_worker *worker, struct block *block, uint64_t off, uint64_t len,
              void *buf)
{
    struct block_req req = {.op = BLOCK_READ, .off = off, .len = len};

    crew_submit(worker, block, &req, buf);
    return crew_wait(worker);
}

struct pause {
    struct loop_timer timer;
    struct co *co;
};

static void pause_over(struct loop_timer *timer)
{
    co_wake(container_of(timer, struct pause, timer)->co);
}

void crew_sleep(struct crew_worker *worker, uint64_t ns)
{
    struct pause pause = {.timer.expired = pause_over, .co = co_self()};

    loop_arm(worker->crew->loop, &pause.timer, ns);
    co_suspend();
}

/* ---- turns ----------------------------------------------------------------------------------- */

void crew_turns_init(struct crew_turns *turns)
{
    *turns = (struct crew_turns){.taken = 0};
    co_queue_init(&turns->waiting);
}

uint64_t crew_turn_take(struct crew_turns *turns)
{
    return turns->taken++;
}

void crew_turn_wait(struct crew_turns *turns, uint64_t turn)
{
    while (turns->passed != turn)
        co_queue_wait(&turns->waiting);
}

void crew_turn_pass(struct crew_turns *turns)
{
    turns->passed++;
    co_queue_wake_all(&turns->waiting);
}

/* ---- workers --------------------------------------------------------------------------------- */

static void worker_main(void *opaque)
{
    struct crew_worker *worker = opaque;
    struct crew *crew = worker->crew;

    crew->work(worker);
    if (--crew->live == 0)
        loop_stop(crew->loop);
}

static int run_workers(struct crew *crew, unsigned n, struct err *err)
{
    struct crew_worker *workers = calloc(n, sizeof(*workers));
    int r = workers ? 0 : -ENOMEM;

    for (unsigned i = 0; r == 0 && i < n; i++) {
        workers[i].crew = crew;
        r = co_start(aio_sched(crew->aio), worker_main, &workers[i]);
        crew->live += r == 0;
    }
    if (crew->live > 0) /* fewer than wanted will do */
        r = loop_run(crew->loop);
    free(workers);
    return r < 0 ? err_set_errno(err, r, "cannot work on the images") : 0;
}

static int detach_all(struct block *const *blocks, unsigned n, int r, struct err *err)
{
    for (unsigned i = 0; i < n; i++) {
        int r2 = block_detach(blocks[i]);

        if (r == 0 && r2 < 0)
            r = err_set_errno(err, r2, "error while writing back");
    }
    return r;
}

static void keep_memory(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY); /* without it, it is only slower */
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif
}

int crew_run(struct block *const *blocks, unsigned nblocks, unsigned n,
             void (*work)(struct crew_worker *worker), void *opaque, struct err *err)
{
    struct crew crew = {.work = work, .opaque = opaque};
    unsigned attached = 0;
    int r = loop_new(&crew.loop);

    if (r < 0)
        return err_set_errno(err, r, "cannot make an event loop");
    keep_memory();
    while (r == 0 && attached < nblocks) {
        r = block_attach(blocks[attached], crew.loop, err);
        attached += r == 0;
    }
    if (r == 0)
        r = aio_get(crew.loop, AIO_AUTO, &crew.aio, err);
    if (r == 0) {
        r = run_workers(&crew, n, err);
        aio_put(crew.aio);
    }
    r = detach_all(blocks, attached, r, err);
    loop_free(crew.loop);
    return r;
}
