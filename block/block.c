/* SPDX-License-Identifier: Apache-2.0 */
#include "block/block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/idle_memory.h"
#include "base/iov.h"
#include "block/dirty.h"
#include "block/driver.h"
#include "block/merge.h"

/*
 * Requests carried out at a time; the others wait. This many keep any disk busy. More would only
 * cost memory, because each request holds the stack of a coroutine.
 */
#define BLOCK_WORKERS_MAX 128u

/*
 * PIECE_MAX is the longest transfer that is carried out as one; a longer request is carried out
 * piece by piece. Requests take turns by their bytes (co_turn), and each one counts for at least
 * TURN_MIN.
 */
#define PIECE_MAX BLOCK_ALLOC_UNIT_MAX
#define TURN_MIN (4u << 10)

/*
 * A disk is flushed and gives memory back when it had no request for this long. It may take up to
 * twice as long until that is noticed.
 */
#define IDLE_NS 2000000000ull

/* ---- carrying out one request ---------------------------------------------------------------- */

static bool is_write(const struct block_req *req)
{
    return req->op != BLOCK_READ && req->op != BLOCK_FLUSH;
}

static int check(const struct block *block, const struct block_req *req)
{
    if (req->op == BLOCK_FLUSH)
        return 0;
    if (block->alone)
        return -ENXIO;
    if (!range_fits(req->off, req->len, block->len) ||
        !is_aligned(req->off | req->len, BLOCK_SECTOR_SIZE))
        return -EINVAL;
    if ((req->op == BLOCK_READ || req->op == BLOCK_WRITE) &&
        iov_len(req->iov, req->niov) != req->len)
        return -EINVAL;
    return is_write(req) && !block->writable ? -EROFS : 0;
}

static int flush(struct block *block)
{
    int r;

    if (!block->writable)
        return 0;
    block->written = false;
    r = block->driver->flush(block);
    if (r < 0)
        block->written = true;
    return r;
}

static int write_compressed(struct block *block, const struct block_req *req)
{
    if (!block->driver->write_compressed)
        return -ENOTSUP;
    return block->driver->write_compressed(block, req->off, req->len, req->iov, req->niov);
}

static int copy(struct block *block, const struct block_req *req)
{
    struct file *from = req->from->data_file ? req->from->data_file : req->from->file;

    if (!block->driver->copy)
        return -EOPNOTSUPP;
    return block->driver->copy(block, req->off, req->len, from, req->from_host);
}

/* A request, or a piece of one; not a flush. */
static int carry_out_piece(struct block *block, const struct block_req *req)
{
    const struct block_driver *driver = block->driver;

    switch (req->op) {
    case BLOCK_READ:
        return driver->read(block, req->off, req->len, req->iov, req->niov);
    case BLOCK_WRITE:
        if (req->flags & BLOCK_REQ_COMPRESSED)
            return write_compressed(block, req);
        return driver->write(block, req->off, req->len, req->iov, req->niov);
    case BLOCK_COPY:
        return copy(block, req);
    case BLOCK_DISCARD:
        return block->discard ? driver->discard(block, req->off, req->len) : 0;
    case BLOCK_WRITE_ZEROES:
        return driver->write_zeroes(block, req->off, req->len, req->flags);
    default:
        return -ENOTSUP;
    }
}

/* Bytes [at, at + len) of a request that transfers data. */
static int carry_out_part(struct block *block, const struct block_req *req, uint64_t at,
                          uint64_t len)
{
    struct block_req piece = *req;
    struct iov_part part;
    int r = iov_part_take(&part, req->iov, req->niov, at, len);

    if (r < 0)
        return r;
    piece.off = req->off + at;
    piece.len = len;
    piece.iov = part.iov;
    piece.niov = part.niov;
    r = carry_out_piece(block, &piece);
    iov_part_done(&part);
    return r;
}

/*
 * Transfers are cut at multiples of PIECE_MAX, so that no cluster is cut. The other operations are
 * not cut: the driver takes their turns, once it knows how much they have to do.
 */
static int carry_out_pieces(struct block *block, const struct block_req *req)
{
    bool transfers = req->op == BLOCK_READ || req->op == BLOCK_WRITE;
    uint64_t at = 0;
    int r = 0;

    if (!transfers || !block->loop) {
        r = co_turn(TURN_MIN);
        return r < 0 ? r : carry_out_piece(block, req);
    }
    while (r == 0 && at < req->len) {
        uint64_t to_boundary = PIECE_MAX - (req->off + at) % PIECE_MAX;
        uint64_t len = min_u64(req->len - at, to_boundary);

        r = co_turn(max_u64(len, TURN_MIN));
        if (r == 0)
            r = carry_out_part(block, req, at, len);
        at += len;
    }
    return r;
}

static int carry_out_op(struct block *block, const struct block_req *req)
{
    int r;

    if (req->op == BLOCK_FLUSH) {
        r = co_turn(TURN_MIN);
        return r < 0 ? r : flush(block);
    }
    return req->len == 0 ? 0 : carry_out_pieces(block, req);
}

static int carry_out(struct block *block, const struct block_req *req)
{
    bool durable = (req->flags & BLOCK_REQ_FUA) || block->writethrough;
    int r = carry_out_op(block, req);

    if (!is_write(req))
        return r;
    block->written = true; /* only now: a flush during the request did not cover it */
    if (block->dirty)
        block_dirty_mark(block->dirty, req->off, req->len);
    if (block->follow)
        block->follow(block->follow_opaque, req->off, req->len);
    return r == 0 && durable ? flush(block) : r;
}

/* ---- requests in flight ---------------------------------------------------------------------- */

static void count_in_flight(struct block *block, int by)
{
    __atomic_store_n(&block->in_flight, block->in_flight + (unsigned)by, __ATOMIC_RELAXED);
}

static void finish(struct block *block, struct block_req *req, int result)
{
    req->result = result;
    list_add_tail(&block->finished, &req->link);
    aio_defer(block->aio, &block->finish);
}

static void trim_chain(struct block *block)
{
    for (; block; block = block->backing)
        if (block->driver->trim)
            block->driver->trim(block);
}

/* What an idle disk need not keep: caches, stacks of coroutines, what was freed in between. */
static void release_memory(struct block *block)
{
    trim_chain(block);
    co_sched_release(aio_sched(block->aio));
    idle_memory_work_ends();
}

/* An error needs no handling: the guest's next flush tries again, and its result is reported. */
static void tidied(struct block_req *req, int result)
{
}

/*
 * Flush an idle disk, so that a process which is killed leaves its image as clean as if it had
 * closed it. This goes on when requests are cancelled: the machine is ending then, and the process
 * may have to be killed because another disk hangs.
 */
static void tidy(struct block *block)
{
    if (!block->written || block->tidying.result < 0)
        return;
    block->tidying = (struct block_req){.op = BLOCK_FLUSH, .done = tidied};
    block_submit(block, &block->tidying);
}

/*
 * An idle disk has no timer: once this has tidied up, the next finished request arms it again. An
 * operation may go on for days, and keeps the memory that it works with, but no write of the guest
 * from being flushed.
 */
static void idle_expired(struct loop_timer *timer)
{
    struct block *block = container_of(timer, struct block, idle);
    bool idle = !block->busy && block->in_flight == 0;

    block->busy = false;
    if (idle && !block->live)
        release_memory(block);
    else
        loop_arm(block->loop, timer, IDLE_NS);
    if (idle && !block->held)
        tidy(block);
}

bool block_is_quiet(const struct block *block)
{
    return !block->loop || (block->held && block->workers == 0 && list_is_empty(&block->finished));
}

static void wake_if_quiet(struct block *block)
{
    if (block->held && block_is_quiet(block))
        co_queue_wake_all(&block->quiet);
}

/* Answer what is finished, outside any coroutine and outside block_submit. */
static void finish_run(struct aio_task *task)
{
    struct block *block = container_of(task, struct block, finish);
    struct list *first;

    block->busy = true;
    if (!block->idle.loop) {
        idle_memory_work_begins();
        loop_arm(block->loop, &block->idle, IDLE_NS);
    }
    while ((first = list_first(&block->finished))) {
        struct block_req *req = container_of(first, struct block_req, link);

        list_remove(first);
        count_in_flight(block, -1);
        req->done(req, req->result);
    }
    wake_if_quiet(block);
}

/*
 * When requests that were merged fail, each one is tried by itself: a bad sector is an error of the
 * request that touches it, not of its neighbours. -EAGAIN means that the host was busy for as long
 * as we wait for it, and is the result of all.
 */
static void carry_out_merged(struct block *block, struct block_merged *merged)
{
    int r = carry_out(block, &merged->req);
    struct list *first;

    free(merged->iov);
    while ((first = list_first(&merged->parts))) {
        struct block_req *req = container_of(first, struct block_req, link);

        list_remove(first);
        finish(block, req, r < 0 && r != -EAGAIN ? carry_out(block, req) : r);
    }
}

/* A coroutine that carries out requests until none is waiting. */
static void worker(void *opaque)
{
    struct block *block = opaque;
    struct list *first;

    while (!block->held && (first = list_first(&block->pending))) {
        struct block_req *req = container_of(first, struct block_req, link);
        struct block_merged merged;

        list_remove(first);
        co_set_cancel(req == &block->tidying ? NULL : &block->cancel);
        if (block_merge(block, req, &merged))
            carry_out_merged(block, &merged);
        else
            finish(block, req, carry_out(block, req));
    }
    block->workers--;
    wake_if_quiet(block);
}

static int start_worker(struct block *block)
{
    int r = co_start(aio_sched(block->aio), worker, block);

    if (r == 0)
        block->workers++;
    return r;
}

static void start_workers(struct block *block)
{
    unsigned n = 0;
    int r = 0;

    for (struct list *link = block->pending.next; link != &block->pending; link = link->next)
        n++;
    while (r == 0 && n-- > 0 && block->workers < BLOCK_WORKERS_MAX)
        r = start_worker(block);
    while (block->workers == 0 && !list_is_empty(&block->pending)) {
        struct list *first = list_first(&block->pending);

        list_remove(first);
        finish(block, container_of(first, struct block_req, link), r);
    }
}

void block_hold(struct block *block)
{
    assert(co_self() && !block->held);
    block->held = true;
    while (!block_is_quiet(block))
        co_queue_wait(&block->quiet);
}

void block_release(struct block *block)
{
    block->held = false;
    start_workers(block);
}

void block_submit(struct block *block, struct block_req *req)
{
    int r;

    assert(block->loop);
    req->block = block;
    count_in_flight(block, 1);

    r = check(block, req);
    if (r < 0) {
        finish(block, req, r);
        return;
    }
    list_add_tail(&block->pending, &req->link);
    if (block->held || block->workers == BLOCK_WORKERS_MAX)
        return;
    r = start_worker(block);
    if (r < 0 && block->workers == 0) {
        /* No worker is left that would take it later. */
        list_remove(&req->link);
        finish(block, req, r);
    }
}

int block_execute(struct block *block, struct block_req *req)
{
    int r = check(block, req);

    assert(block_is_quiet(block));
    return r < 0 ? r : carry_out(block, req);
}

void block_follow(struct block *block, void (*fn)(void *opaque, uint64_t off, uint64_t len),
                  void *opaque)
{
    block->follow = fn;
    block->follow_opaque = opaque;
}

unsigned block_in_flight(const struct block *block)
{
    return __atomic_load_n(&block->in_flight, __ATOMIC_RELAXED);
}

void block_set_cancel(struct block *block, bool cancel)
{
    __atomic_store_n(&block->cancel, cancel, __ATOMIC_RELAXED);
}

void block_set_writeback(struct block *block, bool writeback)
{
    block->writethrough = !writeback;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void set_chain_aio(struct block *block, struct aio *aio)
{
    for (; block; block = block->backing) {
        block->aio = aio;
        file_set_aio(block->file, aio);
        if (block->data_file)
            file_set_aio(block->data_file, aio);
    }
}

static void join_loop(struct block *block, struct loop *loop, struct aio *aio)
{
    block->loop = loop;
    block->finish.run = finish_run;
    block->idle.expired = idle_expired;
    set_chain_aio(block, aio);
}

int block_attach(struct block *block, struct loop *loop, struct err *err)
{
    struct aio *aio;
    int r;

    assert(!block->loop);
    r = aio_get(loop, block->aio_kind, &aio, err);
    if (r < 0)
        return r;
    join_loop(block, loop, aio);
    return 0;
}

/* The flush of an idle image does not go with it: the image is flushed when it is handed over. */
static void drop_tidying(struct block *block)
{
    struct list *link = block->pending.next;

    while (link != &block->pending && link != &block->tidying.link)
        link = link->next;
    if (link == &block->pending)
        return;
    list_remove(link);
    count_in_flight(block, -1);
}

struct block *block_take_backing(struct block *block, struct block *base)
{
    struct block *first = block->backing;
    struct block *last = first;

    assert(block_is_quiet(block) && first != base);
    while (last->backing != base)
        last = last->backing;
    block->backing = base;
    last->backing = NULL;
    set_chain_aio(first, NULL);
    return first;
}

void block_hand_over(struct block *from, struct block *to)
{
    struct loop *loop = from->loop;
    struct aio *aio = from->aio;
    struct list *first;

    assert(from->held && block_is_quiet(from) && !to->loop);
    drop_tidying(from);
    set_chain_aio(from, NULL);
    join_loop(to, loop, aio);
    to->aio_kind = from->aio_kind;
    to->writethrough = from->writethrough;
    block_set_cancel(to, __atomic_load_n(&from->cancel, __ATOMIC_RELAXED));
    while ((first = list_first(&from->pending))) {
        struct block_req *req = container_of(first, struct block_req, link);

        list_remove(first);
        req->block = to;
        list_add_tail(&to->pending, first);
        count_in_flight(from, -1);
        count_in_flight(to, 1);
    }
    if (from->idle.loop)
        loop_arm(loop, &to->idle, IDLE_NS);
    loop_disarm(&from->idle);
    to->live = from->live;
    to->live->block = to;
    from->live = NULL;
    to->held = true;
    from->held = false;
    from->loop = NULL;
}

int block_detach(struct block *block)
{
    struct aio *aio = block->aio;

    assert(block->loop);
    while (block->in_flight > 0 || block->workers > 0 || block->live)
        aio_wait(aio);
    if (block->idle.loop)
        idle_memory_work_leaves();
    loop_disarm(&block->idle);

    set_chain_aio(block, NULL);
    aio_put(aio);
    block->loop = NULL;
    return block->written ? flush(block) : 0;
}

int block_close(struct block *block)
{
    int r = 0;
    int r2;

    if (!block)
        return 0;
    assert(!block->loop);
    if (block->writable) {
        if (block->written)
            r = flush(block);
        r2 = block->driver->close ? block->driver->close(block) : 0;
        r = r < 0 ? r : r2;
    }
    r2 = block_close(block->backing);
    r = r < 0 ? r : r2;
    file_free(block->file);
    file_free(block->data_file);
    free(block->path);
    free(block->data_name);
    free(block->data_path);
    free(block->backing_name);
    free(block->backing_format);
    block->driver->free(block);
    return r;
}

const struct block_stats *block_get_stats(const struct block *block)
{
    return &block->stats;
}

void block_get_info(const struct block *block, struct block_info *ret_info)
{
    *ret_info = (struct block_info){
        .len = block->len,
        .logical_block = BLOCK_SECTOR_SIZE,
        .physical_block = (uint32_t)max_u64(block->file->align, 4096),
        .discard_align = 4096,
        .alloc_unit = block->file->align,
        .readonly = !block->writable,
        .discard = block->discard,
        .format = block->driver->name,
    };
    if (block->driver->get_info)
        block->driver->get_info(block, ret_info);
}
