#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>

#include "vmm/base/aio_engine.h"

/*
 * Entries of the submission ring: how much goes to the kernel in one call. More than that may be
 * in flight; the ring is handed over whenever it is full.
 */
#define RING_ENTRIES 64u

struct uring {
    struct aio_engine engine;
    struct io_uring ring;
    struct loop_fd watch; /* the ring itself: readable while it holds completions */
};

static struct uring *of_engine(struct aio_engine *engine)
{
    return container_of(engine, struct uring, engine);
}

/* Waking the loop is all that this is for: completions are taken before it sleeps again. */
static void ring_ready(struct loop_fd *watch, uint32_t events)
{
}

static bool reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    bool any = false;

    /* `done` may submit again, and may even get here through a full ring: one entry at a time. */
    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct file_io *io = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&uring->ring, cqe);
        uring->engine.in_flight--;
        io->done(io, result);
        any = true;
    }
    return any;
}

static struct io_uring_sqe *get_sqe(struct uring *uring)
{
    struct io_uring_sqe *sqe;

    /*
     * A full ring is emptied into the kernel. That is refused only while the kernel is short of
     * memory or has completions waiting to be taken, which end by themselves.
     */
    while (!(sqe = io_uring_get_sqe(&uring->ring)))
        if (io_uring_submit(&uring->ring) < 0)
            (void)io_uring_get_events(&uring->ring);
    return sqe;
}

static void uring_submit(struct aio_engine *engine, struct file_io *io)
{
    struct uring *uring = of_engine(engine);
    struct io_uring_sqe *sqe = get_sqe(uring);

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
    engine->in_flight++;
}

static bool uring_poll(struct aio_engine *engine, bool wait)
{
    struct uring *uring = of_engine(engine);
    bool any;

    /*
     * Errors need no care here: EINTR, EAGAIN and EBUSY leave the entries in the ring for the next
     * time, and completions are looked for in any case.
     */
    if (io_uring_sq_ready(&uring->ring) > 0)
        (void)io_uring_submit(&uring->ring);

    any = reap(uring);
    while (wait && !any && engine->in_flight > 0) {
        (void)io_uring_submit_and_wait(&uring->ring, 1);
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
