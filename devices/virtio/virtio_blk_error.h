/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user is told about a request that failed: of which disk, what was asked for, why, and
 * what helps. The guest is told by the request's status.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_ERROR_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_ERROR_H

#include "base/log.h"
#include "block/block.h"

/*
 * `limit` is the disk's own: one that fails all the time does not hide the errors of others.
 * `kept`: the request is tried again.
 */
void virtio_blk_log_error(struct log_limit *limit, const char *label, const struct block_req *req,
                          int result, bool kept);

#endif
