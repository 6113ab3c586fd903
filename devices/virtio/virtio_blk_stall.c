/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk_stall.h"

#include <errno.h>

bool blk_stall_wants(const struct blk_stall *stall, const struct block_req *req, int result)
{
    switch (req->op == BLOCK_READ ? stall->on_read_error : stall->on_write_error) {
    case VIRTIO_BLK_ERROR_STOP:
        return true;
    case VIRTIO_BLK_ERROR_STOP_IF_FULL:
        return result == -ENOSPC || result == -EDQUOT;
    case VIRTIO_BLK_ERROR_REPORT:
        return false;
    }
    return false;
}

void blk_stall_add(struct blk_stall *stall, struct blk_request *request)
{
    request->next = NULL;
    if (stall->last)
        stall->last->next = request;
    else
        stall->first = request;
    stall->last = request;
}

struct blk_request *blk_stall_take(struct blk_stall *stall, const struct blk_queue *queue)
{
    struct blk_request *before = NULL;

    for (struct blk_request *r = stall->first; r; before = r, r = r->next) {
        if (queue && r->queue != queue)
            continue;
        if (before)
            before->next = r->next;
        else
            stall->first = r->next;
        if (stall->last == r)
            stall->last = before;
        return r;
    }
    return NULL;
}

unsigned blk_stall_count(const struct blk_stall *stall, const struct blk_queue *queue)
{
    unsigned n = 0;

    for (const struct blk_request *r = stall->first; r; r = r->next)
        n += r->queue == queue;
    return n;
}
