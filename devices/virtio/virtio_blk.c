/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/iov.h"
#include "base/log.h"
#include "devices/virtio/virtio_blk_error.h"
#include "devices/virtio/virtio_blk_pause.h"
#include "devices/virtio/virtio_blk_pool.h"
#include "devices/virtio/virtio_blk_stall.h"

/*
 * Data buffers per request that the driver is told to keep to: with header and status 256
 * descriptors, and 1 MiB minus two pages where guest memory is scattered in pages of 4 KiB. More
 * are accepted, up to VIRTQ_CHAIN_MAX.
 */
#define SEG_MAX 254u

/* Largest discard or write-zeroes: 1 GiB in sectors, so that none takes for ever. */
#define RANGE_SECTORS_MAX (1 * GIB / BLOCK_SECTOR_SIZE)

/*
 * Descriptors of a queue that are looked at in a round of the loop: so many take some tenths of a
 * millisecond, and the longest queue of ordinary requests has fewer.
 */
#define ROUND_DESCS 8192u

/*
 * With so many requests in flight a queue does without kicks, each of which is a VM exit: it looks
 * at the ring when one of them is done. The next is done soon: a request that comes between two
 * waits for a sixteenth of the time that it takes itself.
 */
#define BUSY_REQUESTS 16u

_Static_assert(VIRTIO_BLK_SERIAL_MAX == VIRTIO_BLK_ID_BYTES, "the header says what the ABI says");

/* Owner: the vCPU in queue_start and queue_stop, else the loop's thread. */
struct blk_queue {
    struct virtio_blk *blk;
    struct virtq *vq;
    unsigned index;
    struct loop_fd kick;
    struct blk_pool pool;
    struct blk_stall stall;   /* owner: always the loop's thread */
    struct loop_work more;    /* pop on: a round ended with chains left */
    struct loop_work publish; /* show the driver what was completed in this round of the loop */
    struct loop_work stop;
    bool busy; /* kicks are off until a request is done */
    bool stopping;
    sem_t stopped;
};

struct virtio_blk {
    struct virtio_dev dev;
    struct block_port *port;
    struct loop *loop;
    const char *const *label; /* atomic */
    struct log_limit errors;  /* owner: loop thread */
    struct block_info info;   /* constant but for `len`, which is the loop thread's */
    struct block_port_user user;
    uint64_t capacity; /* as the driver reads it, little-endian; atomic, the loop thread writes */
    uint64_t features; /* offered */
    char serial[VIRTIO_BLK_ID_BYTES];
    struct virtio_blk_config config; /* owner: vCPU threads, under the transport's lock */
    bool broken;                     /* owner: loop thread; cleared while no queue runs */
    struct virtq_chain *chain;       /* scratch; owner: loop thread */
    struct blk_pause pause;
    uint64_t resumes; /* so often it was told to go on; owner: the main thread */
    uint64_t round;   /* and so often it did; owner: loop thread */
    enum virtio_blk_on_error on_write_error; /* owner: loop thread, as the next */
    enum virtio_blk_on_error on_read_error;
    struct loop_work report_errors;
    void (*failed)(void *opaque, const struct virtio_blk_failure *failure);
    void *opaque;
    struct blk_queue queues[]; /* dev.nqueues of them */
};

static struct virtio_blk *blk_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_blk, dev);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Answer now, notify the driver once per round of the loop. */
static void push(struct blk_queue *queue, uint16_t head, uint32_t written)
{
    virtq_push(queue->vq, head, written);
    loop_post(queue->blk->loop, &queue->publish);
}

static uint8_t status_of(int result)
{
    if (result == 0)
        return VIRTIO_BLK_S_OK;
    return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/*
 * A read without an error has filled all writable bytes before the status. Otherwise nothing may be
 * claimed about them (2.7.8.2), and the status counts only if nothing comes before it.
 */
static void answer(struct blk_queue *queue, const struct blk_reply *reply, int result,
                   const struct block_req *req)
{
    bool filled = result == 0 && req->op == BLOCK_READ;

    *reply->status = status_of(result);
    push(queue, reply->head, filled || reply->in_len == 1 ? reply->in_len : 0);
}

/* Tell whom it concerns; true: the request is kept, and not answered. */
static bool handle_failure(struct blk_request *request, int result)
{
    struct blk_queue *queue = request->queue;
    struct virtio_blk *blk = queue->blk;
    bool read = request->req.op == BLOCK_READ;
    const struct virtio_blk_failure failure = {
        .read = read,
        .kept = blk->failed && !queue->stopping &&
                blk_stall_wants(read ? blk->on_read_error : blk->on_write_error, result),
        .error = result,
        .round = blk->round,
    };

    virtio_blk_log_error(&blk->errors, __atomic_load_n(blk->label, __ATOMIC_ACQUIRE), &request->req,
                         result, failure.kept);
    if (failure.kept)
        blk_stall_add(&queue->stall, request);
    if (blk->failed)
        blk->failed(blk->opaque, &failure);
    return failure.kept;
}

static void finish_request(struct blk_request *request, int result)
{
    account_done(&request->queue->blk->port->account, &request->req, request->start_ns, result);
    answer(request->queue, &request->reply, result, &request->req);
    blk_pool_give(&request->queue->pool, request);
}

static void request_done(struct block_req *req, int result)
{
    struct blk_request *request = container_of(req, struct blk_request, req);

    /* Cancelled: its guest is gone. */
    if (result < 0 && result != -ECANCELED && handle_failure(request, result))
        blk_pause_check(&request->queue->blk->pause); /* it may be the last that is waited for */
    else
        finish_request(request, result);
}

/* Try again what failed before. */
static void retry(struct virtio_blk *blk)
{
    for (unsigned i = 0; i < blk->dev.nqueues; i++) {
        struct blk_request *request;

        while ((request = blk_stall_take(&blk->queues[i].stall)))
            block_port_submit(blk->port, &request->req);
    }
}

static void report_errors(struct loop_work *work)
{
    struct virtio_blk *blk = container_of(work, struct virtio_blk, report_errors);

    blk->on_read_error = VIRTIO_BLK_ERROR_REPORT;
    blk->on_write_error = VIRTIO_BLK_ERROR_REPORT;
    if (!blk_pause_is_on(&blk->pause))
        retry(blk);
}

void virtio_blk_report_errors(struct virtio_dev *dev)
{
    struct virtio_blk *blk = blk_of(dev);

    loop_post(blk->loop, &blk->report_errors);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Set the range of a request. 0; -EINVAL: not whole blocks, or outside the disk. */
static int set_range(const struct virtio_blk *blk, struct block_req *req, uint64_t sector,
                     uint64_t len)
{
    uint64_t off;

    if (!mul_u64(sector, BLOCK_SECTOR_SIZE, &off) || !range_fits(off, len, blk->info.len) ||
        !is_aligned(off | len, blk->info.logical_block))
        return -EINVAL;
    req->off = off;
    req->len = len;
    return 0;
}

/* Discard and write zeroes: the data is one struct virtio_blk_discard_write_zeroes (5.2.6). */
static int parse_segment(const struct virtio_blk *blk, const struct virtq_chain *chain,
                         uint32_t known_flags, struct block_req *req)
{
    struct virtio_blk_discard_write_zeroes segment;
    const size_t header_len = sizeof(struct virtio_blk_outhdr);

    if (chain->out_len != header_len + sizeof(segment))
        return -EINVAL;
    (void)iov_to_buf(chain->iov, chain->nout, header_len, &segment, sizeof(segment));
    /* 5.2.6.2: flags that the command does not know are unsupported, not wrong. */
    if (le32toh(segment.flags) & ~known_flags)
        return -EOPNOTSUPP;
    if (le32toh(segment.num_sectors) > RANGE_SECTORS_MAX)
        return -EINVAL;
    if (le32toh(segment.flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
        req->flags |= BLOCK_REQ_UNMAP;
    return set_range(blk, req, le64toh(segment.sector),
                     (uint64_t)le32toh(segment.num_sectors) * BLOCK_SECTOR_SIZE);
}

/* The serial number, 20 bytes padded with NULs (5.2.6). 0, or -EINVAL if the buffer differs. */
static int get_id(const struct virtio_blk *blk, const struct virtq_chain *chain)
{
    if (chain->in_len != sizeof(blk->serial) + 1)
        return -EINVAL;
    (void)iov_from_buf(chain->iov + chain->nout, chain->nin, 0, blk->serial, sizeof(blk->serial));
    return 0;
}

/*
 * What does the chain ask for? 0 with op, flags and range set, or with the answer in its buffers;
 * -EINVAL: the driver broke a rule; -EOPNOTSUPP; -EROFS: 5.2.6.2: all that would write to a
 * read-only disk is an error, offered or not.
 */
static int parse_request(const struct virtio_blk *blk, const struct virtq_chain *chain,
                         struct block_req *req)
{
    struct virtio_blk_outhdr header;
    uint64_t sector;
    uint32_t type;

    if (iov_to_buf(chain->iov, chain->nout, 0, &header, sizeof(header)) < sizeof(header))
        return -EINVAL;
    type = le32toh(header.type);
    sector = le64toh(header.sector);

    switch (type) {
    case VIRTIO_BLK_T_IN:
        req->op = BLOCK_READ;
        return set_range(blk, req, sector, chain->in_len - 1);
    case VIRTIO_BLK_T_OUT:
        req->op = BLOCK_WRITE;
        if (blk->info.readonly)
            return -EROFS;
        return set_range(blk, req, sector, chain->out_len - sizeof(header));
    case VIRTIO_BLK_T_FLUSH:
        req->op = BLOCK_FLUSH;
        return 0;
    case VIRTIO_BLK_T_DISCARD:
        req->op = BLOCK_DISCARD;
        if (blk->info.readonly)
            return -EROFS;
        if (!blk->info.discard)
            return -EOPNOTSUPP;
        return parse_segment(blk, chain, 0, req);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        req->op = BLOCK_WRITE_ZEROES;
        if (blk->info.readonly)
            return -EROFS;
        return parse_segment(blk, chain, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, req);
    case VIRTIO_BLK_T_GET_ID:
        req->op = BLOCK_READ; /* of nothing from the image */
        return get_id(blk, chain);
    default:
        return -EOPNOTSUPP;
    }
}

/* Point the request at the data in guest memory: without the header, without the status byte. */
static void set_data(struct blk_request *request, const struct virtq_chain *chain)
{
    struct block_req *req = &request->req;
    const size_t header_len = sizeof(struct virtio_blk_outhdr);
    int niov = 0;

    if (req->op == BLOCK_READ) {
        niov = iov_slice(chain->iov + chain->nout, chain->nin, 0, req->len, request->iov,
                         request->iov_max);
    } else if (req->op == BLOCK_WRITE) {
        niov = iov_slice(chain->iov, chain->nout, header_len, req->len, request->iov,
                         request->iov_max);
    }
    assert(niov >= 0); /* lengths were taken from the chain, and a slice is not longer than it */
    req->iov = request->iov;
    req->niov = (unsigned)niov;
}

static void submit(struct blk_queue *queue, const struct virtq_chain *chain,
                   const struct block_req *parsed, const struct blk_reply *reply)
{
    struct blk_request *request = blk_pool_take(&queue->pool, chain->nout + chain->nin);

    if (!request) {
        answer(queue, reply, -ENOMEM, parsed);
        return;
    }
    request->queue = queue;
    request->req = *parsed;
    request->req.done = request_done;
    request->reply = *reply;
    request->start_ns = monotonic_ns();
    set_data(request, chain);
    block_port_submit(queue->blk->port, &request->req);
}

/*
 * Answer or submit one chain: readable header and data, then writable data and the status, which
 * is the very last byte, however these are spread over buffers (2.7.4.1).
 */
static void handle_chain(struct blk_queue *queue, const struct virtq_chain *chain)
{
    struct blk_reply reply = {.head = chain->head, .in_len = chain->in_len};
    struct block_req req = {0};
    const struct iovec *last;
    int r;

    if (chain->in_len == 0) {
        log_guest(LOG_WARN, "virtio-blk: request without room for a status");
        push(queue, chain->head, 0);
        return;
    }
    last = &chain->iov[chain->nout + chain->nin - 1];
    reply.status = (uint8_t *)last->iov_base + last->iov_len - 1;

    r = parse_request(queue->blk, chain, &req);
    if (r == 0 && (req.len > 0 || req.op == BLOCK_FLUSH)) {
        submit(queue, chain, &req, &reply);
        return;
    }
    if (r < 0 && r != -EOPNOTSUPP) /* that is none of the kinds that are counted */
        account_refused(&queue->blk->port->account, req.op);
    answer(queue, &reply, r, &req); /* an error, a result, or a range of length 0 */
}

/* ---- running queues: the loop's thread ------------------------------------------------------- */

/* The end of a queue that stops, once nothing is in flight. */
static void finish_stop(struct blk_queue *queue)
{
    if (!queue->stopping || queue->vq->in_flight > 0)
        return;
    loop_cancel(queue->blk->loop, &queue->more);
    loop_cancel(queue->blk->loop, &queue->publish);
    blk_pool_empty(&queue->pool);
    queue->stopping = false;
    sem_post(&queue->stopped); /* from here on the queue belongs to the vCPU that waits */
}

/*
 * Take everything the driver offers, but only so much in a round: a driver that refills as fast as
 * requests are answered, or whose chains are as long as they can be, must not keep the loop from
 * completions.
 */
static void process(struct blk_queue *queue)
{
    struct virtio_blk *blk = queue->blk;
    unsigned ndescs = 0;
    int r;

    queue->busy = false;
    if (blk->broken || queue->stopping || blk_pause_is_on(&blk->pause))
        return;
    do {
        virtq_disable_kicks(queue->vq);
        while ((r = virtq_pop(queue->vq, blk->chain)) > 0) {
            handle_chain(queue, blk->chain);
            ndescs += blk->chain->ndescs;
            if (ndescs >= ROUND_DESCS) {
                loop_post(blk->loop, &queue->more);
                return;
            }
        }
        queue->busy = r == 0 && queue->vq->in_flight >= BUSY_REQUESTS;
    } while (r == 0 && !queue->busy && virtq_enable_kicks(queue->vq));

    if (r < 0) {
        /* 2.1.2: no queue of the device is served until the driver has reset it. */
        blk->broken = true;
        blk->dev.transport->needs_reset(blk->dev.transport);
    }
}

static void publish(struct loop_work *work)
{
    struct blk_queue *queue = container_of(work, struct blk_queue, publish);
    struct virtio_transport *transport = queue->blk->dev.transport;

    if (virtq_publish(queue->vq)) {
        queue->blk->port->account.interrupts++;
        transport->notify_used(transport, queue->index);
    }
    if (queue->busy)
        process(queue);
    finish_stop(queue);
    blk_pause_check(&queue->blk->pause);
}

static void process_more(struct loop_work *work)
{
    process(container_of(work, struct blk_queue, more));
}

static void kicked(struct loop_fd *watch, uint32_t events)
{
    struct blk_queue *queue = container_of(watch, struct blk_queue, kick);

    queue->blk->port->account.kicks++;
    process(queue);
}

/* A queue that does not run is the transport's. */
static bool is_running(const struct blk_queue *queue)
{
    return queue->kick.loop != NULL;
}

static bool is_idle(struct blk_pause *pause)
{
    struct virtio_blk *blk = container_of(pause, struct virtio_blk, pause);

    for (unsigned i = 0; i < blk->dev.nqueues; i++) {
        const struct blk_queue *queue = &blk->queues[i];

        if (is_running(queue) && (queue->vq->in_flight > queue->stall.n ||
                                  queue->vq->published_used != queue->vq->next_used))
            return false;
    }
    return true;
}

/* Kicks that came meanwhile were not looked at. */
static void pause_ended(struct blk_pause *pause)
{
    struct virtio_blk *blk = container_of(pause, struct virtio_blk, pause);

    blk->round = pause->ticket;
    retry(blk);
    for (unsigned i = 0; i < blk->dev.nqueues; i++)
        if (is_running(&blk->queues[i]))
            loop_post(blk->loop, &blk->queues[i].more);
}

/* ---- virtio_ops: the main thread ------------------------------------------------------------- */

static void blk_pause_dev(struct virtio_dev *dev, struct virtio_pauser *pauser, uint64_t ticket)
{
    blk_pause_ask(&blk_of(dev)->pause, pauser, ticket);
}

static void blk_resume_dev(struct virtio_dev *dev)
{
    struct virtio_blk *blk = blk_of(dev);

    blk_pause_ask(&blk->pause, NULL, ++blk->resumes);
}

/* What it kept before it hears of the last resume, it tries again then. */
bool virtio_blk_waits(struct virtio_dev *dev, const struct virtio_blk_failure *failure)
{
    return failure->kept && failure->round == blk_of(dev)->resumes;
}

/* ---- virtio_ops: vCPU threads, under the transport's lock ------------------------------------ */

struct start_call {
    struct blk_queue *queue;
    int result;
};

static void show_capacity(struct virtio_blk *blk)
{
    const uint64_t capacity = htole64(blk->info.len / BLOCK_SECTOR_SIZE);

    __atomic_store_n(&blk->capacity, capacity, __ATOMIC_RELAXED);
}

static void resized(struct block_port_user *user)
{
    struct virtio_blk *blk = container_of(user, struct virtio_blk, user);
    struct block_info info;

    block_get_info(blk->port->block, &info);
    if (info.len == blk->info.len)
        return;
    blk->info.len = info.len;
    show_capacity(blk);
    blk->dev.transport->notify_config(blk->dev.transport);
}

static void start_on_loop(void *opaque)
{
    struct start_call *call = opaque;
    struct blk_queue *queue = call->queue;

    /* The driver may have read the capacity before the disk got another one. */
    queue->blk->port->user = &queue->blk->user;
    resized(&queue->blk->user);
    virtq_start(queue->vq, queue->blk->dev.features);
    queue->busy = false;
    call->result = loop_add_fd(queue->blk->loop, &queue->kick);
    /* The driver may have filled the ring before DRIVER_OK and need not kick again (3.1.1). */
    if (call->result == 0)
        loop_post(queue->blk->loop, &queue->more);
}

static int blk_queue_start(struct virtio_dev *dev, unsigned index)
{
    struct virtio_blk *blk = blk_of(dev);
    struct start_call call = {.queue = &blk->queues[index]};

    loop_call(blk->loop, start_on_loop, &call);
    return call.result;
}

static bool has_running_queue(const struct virtio_blk *blk)
{
    for (unsigned i = 0; i < blk->dev.nqueues; i++)
        if (is_running(&blk->queues[i]))
            return true;
    return false;
}

static bool comes_from(const struct block_req *req, const void *queue)
{
    return container_of(req, struct blk_request, req)->queue == queue;
}

static void stop_on_loop(struct loop_work *work)
{
    struct blk_queue *queue = container_of(work, struct blk_queue, stop);
    struct blk_request *request;

    loop_remove_fd(&queue->kick);
    if (!has_running_queue(queue->blk))
        queue->blk->port->user = NULL;
    queue->stopping = true;
    block_port_withdraw(queue->blk->port, comes_from, queue); /* a vCPU waits */
    while ((request = blk_stall_take(&queue->stall)))
        finish_request(request, -EIO);
    finish_stop(queue);
}

/*
 * Requests that the disk carries out are not cancelled: the host may be writing to their buffers.
 * Those that wait for limits have not begun, and a driver that resets its device asks for nothing
 * any more.
 */
static void blk_queue_stop(struct virtio_dev *dev, unsigned index)
{
    struct virtio_blk *blk = blk_of(dev);
    struct blk_queue *queue = &blk->queues[index];

    loop_post(blk->loop, &queue->stop);
    while (sem_wait(&queue->stopped) < 0)
        ; /* EINTR: vCPU threads are interrupted by signals */
}

static uint64_t blk_features(struct virtio_dev *dev)
{
    return blk_of(dev)->features;
}

static void set_writeback_on_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;

    block_set_writeback(blk->port->block, blk->config.wce);
}

/* The vCPU waits, so that the mode holds for the requests that the driver sends next. */
static void set_writeback(struct virtio_blk *blk, bool writeback)
{
    blk->config.wce = writeback;
    loop_call(blk->loop, set_writeback_on_loop, blk);
}

static void blk_features_ok(struct virtio_dev *dev)
{
    struct virtio_blk *blk = blk_of(dev);

    blk->broken = false;
    /* A driver that cannot flush is given a disk that needs no flush (5.2.5.2, 5.2.6.2). */
    set_writeback(blk, dev->features & VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));
}

static void blk_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    struct virtio_blk *blk = blk_of(dev);
    struct virtio_blk_config config = blk->config;

    config.capacity = __atomic_load_n(&blk->capacity, __ATOMIC_RELAXED);
    virtio_config_copy(&config, sizeof(config), off, buf, len);
}

static void blk_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);

    /* The one field that can be written, and it is one byte. */
    if (off == wce && len == 1 && (dev->features & VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE)))
        set_writeback(blk_of(dev), *(const uint8_t *)buf != 0);
}

static void leave_loop(void *opaque)
{
    struct virtio_blk *blk = opaque;

    blk->port->user = NULL;
    loop_cancel(blk->loop, &blk->report_errors);
}

static void blk_free(struct virtio_dev *dev)
{
    struct virtio_blk *blk = blk_of(dev);

    loop_call(blk->loop, leave_loop, blk);
    blk_pause_done(&blk->pause);
    for (unsigned i = 0; i < dev->nqueues; i++)
        sem_destroy(&blk->queues[i].stopped);
    virtio_dev_done(dev);
    free(blk->chain);
    free(blk);
}

static const struct virtio_ops virtio_blk_ops = {
    .name = "virtio-blk",
    .device_id = VIRTIO_ID_BLOCK,
    .features = blk_features,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .features_ok = blk_features_ok,
    .queue_start = blk_queue_start,
    .queue_stop = blk_queue_stop,
    .pause = blk_pause_dev,
    .resume = blk_resume_dev,
    .free = blk_free,
};

/* ---- setting up ------------------------------------------------------------------------------ */

static uint64_t features_for(const struct block_info *info, unsigned nqueues)
{
    uint64_t features = VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
                        VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
                        VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) |
                        VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE);

    if (nqueues > 1)
        features |= VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
    if (info->readonly)
        return features | VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
    if (info->discard)
        features |= VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD);
    return features | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
}

static void fill_config(struct virtio_blk_config *config, const struct block_info *info,
                        unsigned nqueues)
{
    uint32_t physical_per_logical = info->physical_block / info->logical_block;
    uint32_t discard_align = info->discard_align / BLOCK_SECTOR_SIZE;

    config->seg_max = htole32(SEG_MAX);
    config->blk_size = htole32(info->logical_block);
    /* Sizes in logical blocks; as an exponent, 31 - clz is the logarithm of a power of two. */
    if (is_pow2(physical_per_logical)) {
        config->physical_block_exp = (uint8_t)(31 - __builtin_clz(physical_per_logical));
        config->min_io_size = htole16((uint16_t)min_u64(physical_per_logical, UINT16_MAX));
    }
    config->opt_io_size = htole32(info->opt_io / info->logical_block);
    config->wce = 1;
    config->num_queues = htole16((uint16_t)nqueues);
    if (info->readonly)
        return;
    if (info->discard) {
        config->max_discard_sectors = htole32(RANGE_SECTORS_MAX);
        config->max_discard_seg = htole32(1);
        config->discard_sector_alignment = htole32(discard_align);
    }
    config->max_write_zeroes_sectors = htole32(RANGE_SECTORS_MAX);
    config->max_write_zeroes_seg = htole32(1);
    config->write_zeroes_may_unmap = info->discard;
}

static void init_queue(struct virtio_blk *blk, unsigned index)
{
    struct blk_queue *queue = &blk->queues[index];

    queue->blk = blk;
    queue->vq = &blk->dev.queues[index];
    queue->index = index;
    queue->kick = (struct loop_fd){
        .fd = blk->dev.kick_fds[index],
        /* Each kick is told of once, so that nobody needs to read the eventfd: one call less. */
        .events = EPOLLIN | EPOLLET,
        .ready = kicked,
    };
    blk_pool_init(&queue->pool, blk->loop);
    queue->more.run = process_more;
    queue->publish.run = publish;
    queue->stop.run = stop_on_loop;
    (void)sem_init(&queue->stopped, 0, 0); /* fails only for values above SEM_VALUE_MAX */
}

/* An operation may be changing the disk. */
static void read_info(void *opaque)
{
    struct virtio_blk *blk = opaque;

    block_get_info(blk->port->block, &blk->info);
    show_capacity(blk);
}

int virtio_blk_new(const struct virtio_blk_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev)
{
    struct virtio_blk *blk;
    int r;

    blk = calloc(1, sizeof(*blk) + options->nqueues * sizeof(blk->queues[0]));
    if (!blk)
        return -ENOMEM;
    /* Not cleared: of its room for the longest chain, most pages are never touched. */
    blk->chain = malloc(sizeof(*blk->chain));
    r = blk->chain ? virtio_dev_init(&blk->dev, &virtio_blk_ops, mem, options->nqueues) : -ENOMEM;
    if (r < 0) {
        free(blk->chain);
        free(blk);
        return r;
    }
    blk->port = options->port;
    blk->loop = options->port->loop;
    blk->label = options->label;
    loop_call(blk->loop, read_info, blk);
    blk->features = features_for(&blk->info, options->nqueues);
    memcpy(blk->serial, options->serial, strnlen(options->serial, sizeof(blk->serial)));
    fill_config(&blk->config, &blk->info, options->nqueues);
    blk->user.resized = resized;
    blk->pause = (struct blk_pause){
        .port = blk->port,
        .loop = blk->loop,
        .label = blk->label,
        .is_idle = is_idle,
        .ended = pause_ended,
    };
    blk_pause_init(&blk->pause);
    blk->on_write_error = options->on_write_error;
    blk->on_read_error = options->on_read_error;
    blk->report_errors.run = report_errors;
    blk->failed = options->failed;
    blk->opaque = options->opaque;
    for (unsigned i = 0; i < options->nqueues; i++)
        init_queue(blk, i);
    *ret_dev = &blk->dev;
    return 0;
}
