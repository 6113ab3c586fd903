/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/fake_block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"

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

void block_set_cancel(struct block *block, bool cancel)
{
    block->cancelled = cancel;
}

void block_set_writeback(struct block *block, bool writeback)
{
    block->writeback = writeback;
}

struct block *fake_block_new(struct loop *loop, uint64_t len)
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

void fake_block_free(struct block *block)
{
    assert(block->in_flight == 0);
    free(block->data);
    free(block);
}

void fake_block_release(void *opaque)
{
    struct block *block = opaque;

    block->hold = false;
    loop_post(block->loop, &block->work);
}
