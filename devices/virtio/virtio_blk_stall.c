/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_blk_stall.h"

#include <errno.h>

bool blk_stall_wants(enum virtio_blk_on_error on_error, int result)
{
    switch (on_error) {
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
    stall->n++;
}

struct blk_request *blk_stall_take(struct blk_stall *stall)
{
    struct blk_request *request = stall->first;

    if (!request)
        return NULL;
    stall->first = request->next;
    if (!stall->first)
        stall->last = NULL;
    stall->n--;
    return request;
}
