/*
 * A disk in memory that implements block/block.h, for tests of its users: it holds requests back,
 * completes them in an odd order, and fails on demand.
 *
 * A program has this or libblock, never both: include it in the one source file of the program.
 * The functions of block.h then come from here, and the linker leaves libblock out.
 */
#ifndef MINIVMM_TESTS_FAKE_BLOCK_H
#define MINIVMM_TESTS_FAKE_BLOCK_H

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "block/block.h"

struct block {
    struct block_info info;
    uint8_t *data;
    struct loop *loop;
    struct loop_work work; /* completes what is pending */

    /* Owner: the loop's thread; tests look at them while it is idle. */
    struct list pending;
    unsigned in_flight;
    unsigned nsubmitted;
    unsigned nflushes;
    struct block_req last; /* copy of the last request submitted */
    bool writeback;

    /* Set by the test, on the loop's thread or before it runs. */
    bool hold;   /* keep requests pending until fake_block_release */
    bool newest; /* complete the newest first */
    int fail;    /* -errno for every request, if negative */
};

static void complete(struct block *block, struct block_req *req)
{
    const struct block_info *info = &block->info;
    int result = block->fail;

    if (result == 0 && req->op != BLOCK_FLUSH && !range_fits(req->off, req->len, info->len))
        result = -EINVAL;
    if (result == 0 && info->readonly && req->op != BLOCK_READ && req->op != BLOCK_FLUSH)
        result = -EROFS;
    if (result == 0) {
        switch (req->op) {
        case BLOCK_READ:
            iov_from_buf(req->iov, req->niov, 0, block->data + req->off, req->len);
            break;
        case BLOCK_WRITE:
            iov_to_buf(req->iov, req->niov, 0, block->data + req->off, req->len);
            break;
        case BLOCK_FLUSH:
            block->nflushes++;
            break;
        case BLOCK_COPY: /* no device asks for it */
            result = -EOPNOTSUPP;
            break;
        case BLOCK_DISCARD:
        case BLOCK_WRITE_ZEROES:
            memset(block->data + req->off, 0, req->len);
            break;
        }
    }
    block->in_flight--;
    req->done(req, result);
}

static void complete_pending(struct loop_work *work)
{
    struct block *block = container_of(work, struct block, work);

    while (!block->hold && !list_is_empty(&block->pending)) {
        struct list *link = block->newest ? block->pending.prev : block->pending.next;

        list_remove(link);
        complete(block, container_of(link, struct block_req, link));
    }
}

void block_submit(struct block *block, struct block_req *req)
{
    if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
        assert(iov_len(req->iov, req->niov) == req->len);
    req->block = block;
    block->last = *req;
    block->nsubmitted++;
    block->in_flight++;
    list_add_tail(&block->pending, &req->link);
    if (!block->hold)
        loop_post(block->loop, &block->work);
}

unsigned block_in_flight(const struct block *block)
{
    return block->in_flight;
}

void block_get_info(const struct block *block, struct block_info *ret_info)
{
    *ret_info = block->info;
}

void block_set_writeback(struct block *block, bool writeback)
{
    block->writeback = writeback;
}

/* A disk of `len` bytes, all zero, in memory; change `info` and the switches before it is used. */
static struct block *fake_block_new(struct loop *loop, uint64_t len)
{
    struct block *block = calloc(1, sizeof(*block));
    uint8_t *data = calloc(1, len);

    if (!block || !data)
        abort();
    block->data = data;
    block->loop = loop;
    block->work.run = complete_pending;
    block->info = (struct block_info){
        .len = len,
        .logical_block = 512,
        .physical_block = 4096,
        .opt_io = 65536,
        .discard_align = 4096,
        .discard = true,
        .format = "fake",
    };
    list_init(&block->pending);
    return block;
}

static void fake_block_free(struct block *block)
{
    assert(block->in_flight == 0);
    free(block->data);
    free(block);
}

/* On the loop's thread: let go of what was held. */
static UNUSED void fake_block_release(void *opaque)
{
    struct block *block = opaque;

    block->hold = false;
    loop_post(block->loop, &block->work);
}

#endif
