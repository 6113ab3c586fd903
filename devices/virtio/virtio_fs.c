/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_fs.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/virtio_rings.h"

/* 5.11.2: the one for requests that go first, without notifications, and one for the others. */
#define QUEUES 2u

_Static_assert(VIRTIO_FS_TAG_MAX == sizeof(((struct virtio_fs_config *)0)->tag),
               "the header says what the ABI says");

/* Owner: the loop's thread. */
struct fs_queue {
    struct virtio_fs *fs;
    unsigned index;
    bool started;        /* the driver's wish */
    bool given;          /* the process has it */
    uint16_t next_avail; /* where it goes on, unless the process has it */
    /*
     * Eventfd: the process added used buffers. It is watched for edges and never read: the process
     * has it, too, and can make it one that waits.
     */
    struct loop_fd call;
};

struct virtio_fs {
    struct virtio_rings rings; /* they are looked at here only while requests are refused */
    struct loop *loop;
    struct vhost_user user; /* owner: the loop's thread, once it is open */
    struct loop_fd hangup;
    bool lost;     /* owner: the loop's thread, as the next two */
    bool refusing; /* it is dead, and requests fail here instead */
    atomic_bool cancelled;
    struct virtio_fs_config config;
    void (*tell_lost)(void *opaque, int error);
    void (*freed)(void *opaque);
    void *opaque;
    struct fs_queue queues[QUEUES];
};

static struct virtio_fs *fs_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_fs, rings.dev);
}

/* ---- the loop's thread ----------------------------------------------------------------------- */

/* Nobody serves the folder any more: each request fails. */
static void refuse(struct virtio_ring *ring)
{
    const struct virtq_chain *chain;

    while ((chain = virtio_ring_next(ring))) {
        struct fuse_out_header out = {.len = sizeof(out), .error = -EIO};
        struct fuse_in_header in = {0};

        (void)iov_to_buf(chain->iov, chain->nout, 0, &in, sizeof(in)); /* as much as there is */
        out.unique = in.unique;
        virtq_push(
            ring->vq, chain->head,
            (uint32_t)iov_from_buf(&chain->iov[chain->nout], chain->nin, 0, &out, sizeof(out)));
    }
}

/*
 * A queue that a dead process had. It worked on requests in their order, or nearly so: what it
 * answered last tells where it was. Where that is wrong, the driver finds an answer to no request.
 */
static int begin_to_refuse(struct fs_queue *queue)
{
    struct virtio_fs *fs = queue->fs;
    int r = virtio_rings_queue_start(&fs->rings.dev, queue->index);

    if (r == 0)
        virtq_take_over(&fs->rings.dev.queues[queue->index]);
    return r;
}

static bool is_refused(const struct fs_queue *queue)
{
    return virtio_ring_is_started(&queue->fs->rings.all[queue->index]);
}

/*
 * A process that hangs, or says what makes no sense, may have left something behind that goes on to
 * use the rings, which are left alone then: only a reset helps.
 */
static void lose(struct virtio_fs *fs, int error)
{
    bool given[QUEUES];

    if (fs->lost)
        return;
    fs->lost = true;
    loop_remove_fd(&fs->hangup);
    for (unsigned i = 0; i < QUEUES; i++) {
        given[i] = fs->queues[i].given;
        fs->queues[i].given = false;
    }
    if (atomic_load(&fs->cancelled))
        return;
    (void)shutdown(fs->user.sock, SHUT_RDWR); /* or it did that */
    if (error == -EPIPE)
        error = -ECONNRESET;
    fs->tell_lost(fs->opaque, error);
    fs->refusing = error == -ECONNRESET;
    for (unsigned i = 0; fs->refusing && i < QUEUES; i++)
        if (given[i])
            fs->refusing = begin_to_refuse(&fs->queues[i]) == 0;
    if (!fs->refusing)
        fs->rings.dev.transport->needs_reset(fs->rings.dev.transport);
}

/* It says nothing unless it is asked. The driver, which may not be there yet, is told nothing. */
static void hung_up(struct loop_fd *watch, uint32_t events)
{
    lose(container_of(watch, struct virtio_fs, hangup), -ECONNRESET);
}

static void notify(struct fs_queue *queue)
{
    struct virtio_transport *transport = queue->fs->rings.dev.transport;

    transport->notify_used(transport, queue->index);
}

static void called(struct loop_fd *watch, uint32_t events)
{
    notify(container_of(watch, struct fs_queue, call));
}

/* Without room it is kicked already; the process, which has it, too, may have made it wait then. */
static void kick(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLOUT};

    if (poll(&pfd, 1, 0) > 0)
        (void)eventfd_write(fd, 1);
}

static int give(struct fs_queue *queue)
{
    struct virtio_fs *fs = queue->fs;
    const struct vhost_user_queue given = {
        .index = queue->index,
        .vq = &fs->rings.dev.queues[queue->index],
        .kick_fd = fs->rings.dev.kick_fds[queue->index],
        .call_fd = queue->call.fd,
        .next_avail = queue->next_avail,
    };
    int r = fs->lost ? -EPIPE : vhost_user_start(&fs->user, &given);

    if (r < 0) {
        lose(fs, r);
        return r;
    }
    queue->given = true;
    /* What was offered before it could be kicked (3.1.1), or while nobody looked. */
    kick(given.kick_fd);
    return 0;
}

/* Afterwards no request of it is in flight, and the driver was told of those that were. */
static void take_back(struct fs_queue *queue)
{
    int r;

    if (!queue->given)
        return;
    queue->given = false;
    r = vhost_user_stop(&queue->fs->user, queue->index, &queue->next_avail);
    if (r < 0)
        lose(queue->fs, r);
    notify(queue);
}

/* A pause begins. A queue that stops has been taken back before. */
static void rest(struct virtio_ring *ring)
{
    struct virtio_fs *fs = container_of(ring->rings, struct virtio_fs, rings);

    take_back(&fs->queues[ring->index]);
}

/* The end of a pause: with the process, or without it, of which the driver is told. */
static void go_on(struct fs_queue *queue)
{
    struct virtio_fs *fs = queue->fs;

    if (!queue->started || queue->given || is_refused(queue))
        return;
    if (give(queue) < 0 && fs->refusing && begin_to_refuse(queue) < 0)
        fs->rings.dev.transport->needs_reset(fs->rings.dev.transport);
}

static void resumed(struct virtio_rings *rings)
{
    struct virtio_fs *fs = container_of(rings, struct virtio_fs, rings);

    for (unsigned i = 0; i < QUEUES; i++)
        go_on(&fs->queues[i]);
}

/* ---- virtio_ops: vCPU threads, under the transport's lock ------------------------------------ */

struct start_call {
    struct fs_queue *queue;
    int result;
};

static void start_on_loop(void *opaque)
{
    struct start_call *call = opaque;
    struct fs_queue *queue = call->queue;
    struct virtio_fs *fs = queue->fs;

    queue->next_avail = 0;
    call->result = loop_add_fd(fs->loop, &queue->call);
    if (call->result == 0 && !fs->rings.pause.on) {
        call->result = give(queue);
        if (call->result < 0 && fs->refusing)
            call->result = begin_to_refuse(queue);
    }
    queue->started = call->result == 0;
    if (!queue->started)
        loop_remove_fd(&queue->call);
}

static int fs_queue_start(struct virtio_dev *dev, unsigned index)
{
    struct virtio_fs *fs = fs_of(dev);
    struct start_call call = {.queue = &fs->queues[index]};

    loop_call(fs->loop, start_on_loop, &call);
    return call.result;
}

static void stop_on_loop(void *opaque)
{
    struct fs_queue *queue = opaque;

    take_back(queue);
    if (is_refused(queue))
        virtio_rings_queue_stop(&queue->fs->rings.dev, queue->index);
    loop_remove_fd(&queue->call);
    queue->started = false;
}

/* No longer than the time-out, for all queues: then the process is lost, and ended. */
static void fs_queue_stop(struct virtio_dev *dev, unsigned index)
{
    struct virtio_fs *fs = fs_of(dev);

    loop_call(fs->loop, stop_on_loop, &fs->queues[index]);
}

/* Those of the ring, without which no process is accepted, are all there are. */
static uint64_t fs_features(struct virtio_dev *dev)
{
    return 0;
}

static void set_features_on_loop(void *opaque)
{
    struct virtio_fs *fs = opaque;
    int r;

    if (fs->lost)
        return;
    r = vhost_user_set_features(&fs->user, fs->rings.dev.features);
    if (r < 0)
        lose(fs, r);
}

static void fs_features_ok(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    virtio_rings_features_ok(dev);
    loop_call(fs->loop, set_features_on_loop, fs);
}

static void fs_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    const struct virtio_fs *fs = fs_of(dev);

    virtio_config_copy(&fs->config, sizeof(fs->config), off, buf, len);
}

static void fs_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
}

static void leave_loop(void *opaque)
{
    struct virtio_fs *fs = opaque;

    loop_remove_fd(&fs->hangup);
}

static void free_memory(struct virtio_fs *fs)
{
    for (unsigned i = 0; i < QUEUES; i++)
        if (fs->queues[i].call.fd >= 0)
            close(fs->queues[i].call.fd);
    virtio_rings_done(&fs->rings);
    free(fs);
}

static void fs_free(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);
    void (*freed)(void *opaque) = fs->freed;
    void *opaque = fs->opaque;

    loop_call(fs->loop, leave_loop, fs);
    vhost_user_close(&fs->user);
    free_memory(fs);
    freed(opaque);
}

static const struct virtio_ops virtio_fs_ops = {
    .name = "virtio-fs",
    .device_id = VIRTIO_ID_FS,
    .features = fs_features,
    .config_read = fs_config_read,
    .config_write = fs_config_write,
    .features_ok = fs_features_ok,
    .queue_start = fs_queue_start,
    .queue_stop = fs_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = fs_free,
};

/* ---- setting up ------------------------------------------------------------------------------ */

static int init_queues(struct virtio_fs *fs)
{
    int r = 0;

    for (unsigned i = 0; i < QUEUES; i++) {
        struct fs_queue *queue = &fs->queues[i];

        queue->fs = fs;
        queue->index = i;
        queue->call = (struct loop_fd){
            .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
            .events = EPOLLIN | EPOLLET,
            .ready = called,
        };
        if (queue->call.fd < 0)
            r = -errno;
    }
    return r;
}

struct watch_call {
    struct virtio_fs *fs;
    int result;
};

static void watch_on_loop(void *opaque)
{
    struct watch_call *call = opaque;

    call->result = loop_add_fd(call->fs->loop, &call->fs->hangup);
}

static int open_process(struct virtio_fs *fs, const struct virtio_fs_options *options)
{
    struct watch_call call = {.fs = fs};
    int r = vhost_user_open(&fs->user, options->sock, options->start_ms,
                            VIRTIO_FEATURES_COMMON & ~VIRTIO_FEATURE(VIRTIO_F_RING_RESET),
                            fs->rings.dev.mem);

    if (r < 0)
        return r;
    fs->user.timeout_ms = options->timeout_ms;
    fs->hangup = (struct loop_fd){.fd = options->sock, .events = EPOLLRDHUP, .ready = hung_up};
    loop_call(fs->loop, watch_on_loop, &call);
    if (call.result < 0)
        vhost_user_close(&fs->user);
    return call.result;
}

int virtio_fs_new(const struct virtio_fs_options *options, const struct guest_mem *mem,
                  struct virtio_dev **ret_dev)
{
    struct virtio_fs *fs = calloc(1, sizeof(*fs));
    int r = -ENOMEM;

    if (fs) {
        fs->rings = (struct virtio_rings){
            .loop = options->loop,
            .work = refuse,
            .rest = rest,
            .resumed = resumed,
        };
        r = virtio_rings_init(&fs->rings, &virtio_fs_ops, mem, QUEUES);
    }
    if (r < 0) {
        free(fs);
        close(options->sock);
        return r;
    }
    fs->loop = options->loop;
    fs->tell_lost = options->lost;
    fs->freed = options->freed;
    fs->opaque = options->opaque;
    memcpy(fs->config.tag, options->tag, strnlen(options->tag, VIRTIO_FS_TAG_MAX));
    fs->config.num_request_queues = htole32(1);
    r = init_queues(fs);
    if (r < 0)
        close(options->sock);
    else
        r = open_process(fs, options);
    if (r < 0) {
        free_memory(fs);
        return r;
    }
    *ret_dev = &fs->rings.dev;
    return 0;
}

void virtio_fs_cancel(struct virtio_dev *dev)
{
    struct virtio_fs *fs = fs_of(dev);

    atomic_store(&fs->cancelled, true);
    (void)shutdown(fs->user.sock, SHUT_RDWR); /* or it has ended by itself */
}
