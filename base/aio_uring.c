/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/aio_engine.h"
#include "base/bytes.h"

/*
 * Entries of the submission ring: how much goes to the kernel in one call. More than that may be
 * in flight; what does not fit waits until the kernel has taken these.
 */
#define RING_ENTRIES 64u

/*
 * Completions that are taken at a time. The requests that follow from them go to the kernel before
 * the next ones are taken: a device that has finished a whole queue is not idle meanwhile. The
 * first one is taken alone, for the device waits for what follows from it; then twice as many each
 * time, so that they share calls of the kernel.
 */
#define REAP_MAX 8u

struct uring {
    struct aio_engine engine;
    struct io_uring ring;
    struct loop_fd watch; /* the ring itself: readable while it holds completions */
    struct list waiting;  /* struct file_io not in the ring yet */

    /* Entries of the ring that the kernel has not taken yet, in order. */
    struct io_uring_sqe *queued[RING_ENTRIES];
    unsigned nqueued;

    unsigned reap_next; /* completions to be taken at once: 1 to REAP_MAX */
};

static struct uring *of_engine(struct aio_engine *engine)
{
    return container_of(engine, struct uring, engine);
}

/* Waking the loop is all that this is for: completions are taken before it sleeps again. */
static void ring_ready(struct loop_fd *watch, uint32_t events)
{
}

/* Returns whether there were any; then there may be more. */
static bool reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    unsigned max = uring->reap_next;
    unsigned n = 0;

    /* `done` may submit again, and may even get here through a full ring: one entry at a time. */
    while (n < max && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct file_io *io = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&uring->ring, cqe);
        if (!io)
            continue; /* a place holder, see refuse */
        uring->engine.in_flight--;
        io->done(io, result);
        n++;
    }
    uring->reap_next = n < max ? 1 : (unsigned)min_u64(2ull * max, REAP_MAX);
    return n > 0;
}

static void uring_submit(struct aio_engine *engine, struct file_io *io)
{
    list_add_tail(&of_engine(engine)->waiting, &io->link);
    engine->in_flight++;
}

static void prepare(struct io_uring_sqe *sqe, struct file_io *io)
{
    switch (io->op) {
    case FILE_READ:
        io_uring_prep_readv(sqe, io->fd, io->iov, io->niov, io->off);
        if (io->long_copy)
            io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
        break;
    case FILE_WRITE:
        io_uring_prep_writev(sqe, io->fd, io->iov, io->niov, io->off);
        break;
    case FILE_SYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    case FILE_ZERO:
        io_uring_prep_fallocate(sqe, io->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->off, (off_t)io->len);
        break;
    case FILE_PUNCH:
        io_uring_prep_fallocate(sqe, io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)io->off, (off_t)io->len);
        break;
    case FILE_RESERVE:
        io_uring_prep_fallocate(sqe, io->fd, FALLOC_FL_KEEP_SIZE, (off_t)io->off, (off_t)io->len);
        break;
    case FILE_COPY:
        assert(false); /* aio_submit lets threads do it */
        break;
    }
    io_uring_sqe_set_data(sqe, io);
}

/* Put what waits into the ring, as far as there is room. */
static void fill_ring(struct uring *uring)
{
    struct list *first;
    struct io_uring_sqe *sqe;

    while ((first = list_first(&uring->waiting)) && (sqe = io_uring_get_sqe(&uring->ring))) {
        list_remove(first);
        prepare(sqe, container_of(first, struct file_io, link));
        uring->queued[uring->nqueued++] = sqe;
    }
}

/* Hand over all that was submitted. False: the kernel does not take the rest for now. */
static bool hand_over(struct uring *uring)
{
    fill_ring(uring);
    while (uring->nqueued > 0) {
        int taken = io_uring_submit(&uring->ring);

        if (taken <= 0)
            return false;
        uring->nqueued -= (unsigned)taken;
        memmove(uring->queued, uring->queued + taken,
                uring->nqueued * sizeof(struct io_uring_sqe *));
        fill_ring(uring);
    }
    return true;
}

/*
 * The kernel is short of memory. Nothing would say when to ask it again, so what it did not take
 * has failed for now, and whoever asked for it tries again after a pause (file.c). An entry cannot
 * be taken out of the ring: it becomes one that does nothing. Returns whether there was any.
 */
static bool refuse(struct uring *uring)
{
    bool any = false;
    struct list refused = LIST_INIT(refused);
    struct list *first;

    for (unsigned i = 0; i < uring->nqueued; i++) {
        struct file_io *io = (struct file_io *)(uintptr_t)uring->queued[i]->user_data;

        io_uring_prep_nop(uring->queued[i]);
        io_uring_sqe_set_data(uring->queued[i], NULL);
        if (io)
            list_add_tail(&refused, &io->link);
    }
    while ((first = list_first(&uring->waiting))) {
        list_remove(first);
        list_add_tail(&refused, first);
    }
    while ((first = list_first(&refused))) {
        struct file_io *io = container_of(first, struct file_io, link);

        list_remove(first);
        uring->engine.in_flight--;
        io->done(io, -EAGAIN);
        any = true;
    }
    return any;
}

static bool uring_poll(struct aio_engine *engine, bool wait)
{
    struct uring *uring = of_engine(engine);
    struct pollfd ring = {.fd = uring->ring.ring_fd, .events = POLLIN};
    bool taken = hand_over(uring);
    bool any = reap(uring); /* completions may be what keeps the kernel from taking more */

    if (!taken && !any)
        any = refuse(uring);
    while (wait && !any && engine->in_flight > 0) {
        (void)poll(&ring, 1, -1); /* interrupted by a signal, it is called again */
        any = reap(uring);
    }
    return any;
}

static void uring_free(struct aio_engine *engine)
{
    struct uring *uring = of_engine(engine);

    assert(engine->in_flight == 0);
    loop_remove_fd(&uring->watch);
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

static const struct aio_engine_ops uring_ops = {
    .submit = uring_submit,
    .poll = uring_poll,
    .free = uring_free,
};

int aio_uring_new(struct loop *loop, struct aio_engine **ret_engine)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    int r;

    if (!uring)
        return -ENOMEM;
    uring->engine.ops = &uring_ops;
    uring->reap_next = 1;
    list_init(&uring->waiting);
    r = io_uring_queue_init(RING_ENTRIES, &uring->ring, 0);
    if (r < 0)
        goto free_uring;
    (void)fcntl(uring->ring.ring_fd, F_SETFD, FD_CLOEXEC); /* cannot fail on an open descriptor */

    uring->watch.fd = uring->ring.ring_fd;
    uring->watch.events = EPOLLIN;
    uring->watch.ready = ring_ready;
    r = loop_add_fd(loop, &uring->watch);
    if (r < 0)
        goto exit_ring;
    *ret_engine = &uring->engine;
    return 0;

exit_ring:
    io_uring_queue_exit(&uring->ring);
free_uring:
    free(uring);
    return r;
}
