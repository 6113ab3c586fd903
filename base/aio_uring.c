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
#include "base/clock.h"

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

/* Where the kernel is short of memory, how long the loop's sleep is at most. */
#define SHORT_SLEEP_MS 10

/*
 * Completions reach the loop in one of two ways. Where the kernel can leave them until this thread
 * asks (DEFER_TASKRUN, Linux 6.1), the loop sleeps in the ring while anything is in flight, and the
 * ring watches the loop's epoll descriptor. What was submitted last goes to the kernel in the same
 * call. Elsewhere the loop sleeps in epoll_wait, and watches the ring.
 */
struct uring {
    struct aio_engine engine;
    struct io_uring ring;
    struct loop *loop;
    struct list waiting; /* struct file_io not in the ring yet */

    bool loop_sleeps_here;
    struct loop_fd watch; /* otherwise: the ring itself, readable while it holds completions */
    bool watching;        /* the ring holds an entry that waits for the loop's descriptors, */
    bool fds_ready;       /* or that one was completed, and the loop has not looked since */
    bool hesitant;        /* the kernel did not take everything last time */

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

/* Its address marks the entry that waits for the loop's descriptors. */
static bool is_of_loop(struct uring *uring, const struct io_uring_cqe *cqe)
{
    return io_uring_cqe_get_data(cqe) == &uring->watching;
}

/* The loop has to look for itself: this is also what a failure means. */
static void see_fds(struct uring *uring, struct io_uring_cqe *cqe)
{
    io_uring_cqe_seen(&uring->ring, cqe);
    uring->watching = false;
    uring->fds_ready = true;
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

        if (is_of_loop(uring, cqe)) {
            see_fds(uring, cqe);
            continue;
        }
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

/* Forget the entries that the kernel has taken. Returns whether it has taken all. */
static bool forget_taken(struct uring *uring)
{
    unsigned left = io_uring_sq_ready(&uring->ring);

    memmove(uring->queued, uring->queued + uring->nqueued - left,
            left * sizeof(struct io_uring_sqe *));
    uring->nqueued = left;
    return left == 0;
}

/* Hand over all that was submitted. False: the kernel does not take the rest for now. */
static bool hand_over(struct uring *uring)
{
    bool taken = true;

    fill_ring(uring);
    while (taken && uring->nqueued > 0) {
        taken = io_uring_submit(&uring->ring) > 0;
        (void)forget_taken(uring);
        fill_ring(uring);
    }
    uring->hesitant = !taken;
    return taken;
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
        void *owner = (void *)(uintptr_t)uring->queued[i]->user_data;

        io_uring_prep_nop(uring->queued[i]);
        io_uring_sqe_set_data(uring->queued[i], NULL);
        if (owner == &uring->watching)
            uring->watching = false;
        else if (owner)
            list_add_tail(&refused, &((struct file_io *)owner)->link);
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

/*
 * May what is in the ring go to the kernel in the call in which the loop sleeps? Not while there
 * are completions to be looked at first: the device would wait for what follows from them.
 */
static bool can_wait_for_sleep(struct uring *uring)
{
    fill_ring(uring);
    return uring->loop_sleeps_here && !uring->hesitant && io_uring_cq_ready(&uring->ring) == 0 &&
           io_uring_sq_space_left(&uring->ring) > 0;
}

static bool uring_poll(struct aio_engine *engine, bool wait)
{
    struct uring *uring = of_engine(engine);
    struct io_uring_cqe *cqe;
    bool taken;
    bool any;

    if (!wait && can_wait_for_sleep(uring))
        return false;
    taken = hand_over(uring);
    any = reap(uring); /* completions may be what keeps the kernel from taking more */
    if (!taken && !any)
        any = refuse(uring);
    while (wait && !any && engine->in_flight > 0) {
        (void)io_uring_wait_cqe(&uring->ring, &cqe); /* after a signal, it is called again */
        any = reap(uring);
    }
    return any;
}

/* ---- the loop's sleep ------------------------------------------------------------------------ */

/* False: there is no room in the ring. */
static bool watch_fds(struct uring *uring, int epoll_fd)
{
    struct io_uring_sqe *sqe;

    if (uring->watching)
        return true;
    sqe = io_uring_get_sqe(&uring->ring);
    if (!sqe)
        return false;
    io_uring_prep_poll_add(sqe, epoll_fd, POLLIN);
    io_uring_sqe_set_data(sqe, &uring->watching);
    uring->queued[uring->nqueued++] = sqe;
    uring->watching = true;
    return true;
}

/* Hand over what is in the ring, and sleep until it holds a completion. */
static bool submit_and_sleep(struct uring *uring, int timeout_ms)
{
    uint64_t ns = (uint64_t)timeout_ms * NS_PER_MS; /* not used if negative */
    struct __kernel_timespec timeout = {
        .tv_sec = (long long)(ns / NS_PER_S),
        .tv_nsec = (long long)(ns % NS_PER_S),
    };
    struct io_uring_cqe *cqe;

    (void)io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, timeout_ms < 0 ? NULL : &timeout,
                                           NULL);
    uring->hesitant = !forget_taken(uring);
    return !uring->hesitant;
}

/* The kernel takes nothing: sleep without the ring for a moment, then ask it again. */
static enum loop_slept sleep_shortly(int epoll_fd, int timeout_ms)
{
    struct pollfd fds = {.fd = epoll_fd, .events = POLLIN};
    int ms = timeout_ms < 0 || timeout_ms > SHORT_SLEEP_MS ? SHORT_SLEEP_MS : timeout_ms;

    return poll(&fds, 1, ms) > 0 ? LOOP_FDS_READY : LOOP_FDS_NOT_READY;
}

static enum loop_slept sleep_in_ring(void *opaque, int epoll_fd, int timeout_ms)
{
    struct uring *uring = opaque;
    struct io_uring_cqe *cqe;

    if (uring->engine.in_flight == 0)
        return LOOP_SLEEP_IN_EPOLL;
    if (!watch_fds(uring, epoll_fd) || !submit_and_sleep(uring, uring->fds_ready ? 0 : timeout_ms))
        return sleep_shortly(epoll_fd, timeout_ms);
    if (io_uring_peek_cqe(&uring->ring, &cqe) == 0 && is_of_loop(uring, cqe))
        see_fds(uring, cqe);
    if (!uring->fds_ready)
        return LOOP_FDS_NOT_READY;
    uring->fds_ready = false;
    return LOOP_FDS_READY;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static void disconnect(struct uring *uring)
{
    if (uring->loop_sleeps_here)
        loop_set_sleep(uring->loop, NULL, NULL);
    else
        loop_remove_fd(&uring->watch);
}

static int connect_to_loop(struct uring *uring)
{
    if (uring->loop_sleeps_here) {
        loop_set_sleep(uring->loop, sleep_in_ring, uring);
        return 0;
    }
    uring->watch.fd = uring->ring.ring_fd;
    uring->watch.events = EPOLLIN;
    uring->watch.ready = ring_ready;
    return loop_add_fd(uring->loop, &uring->watch);
}

static void uring_free(struct aio_engine *engine)
{
    struct uring *uring = of_engine(engine);

    assert(engine->in_flight == 0);
    disconnect(uring);
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

static const struct aio_engine_ops uring_ops = {
    .submit = uring_submit,
    .poll = uring_poll,
    .free = uring_free,
};

/* The best kind of ring that the kernel has. 0 or -errno. */
static int make_ring(struct uring *uring)
{
    int r = io_uring_queue_init(RING_ENTRIES, &uring->ring,
                                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    uring->loop_sleeps_here = r == 0;
    if (r == -EINVAL)
        r = io_uring_queue_init(RING_ENTRIES, &uring->ring, 0);
    return r;
}

int aio_uring_new(struct loop *loop, struct aio_engine **ret_engine)
{
    struct uring *uring = calloc(1, sizeof(*uring));
    int r;

    if (!uring)
        return -ENOMEM;
    uring->engine.ops = &uring_ops;
    uring->loop = loop;
    uring->reap_next = 1;
    list_init(&uring->waiting);
    r = make_ring(uring);
    if (r < 0)
        goto free_uring;
    (void)fcntl(uring->ring.ring_fd, F_SETFD, FD_CLOEXEC); /* cannot fail on an open descriptor */
    r = connect_to_loop(uring);
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
