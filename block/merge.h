/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that continue each other, carried out as one; private to block/.
 */
#ifndef MINIVMM_BLOCK_MERGE_H
#define MINIVMM_BLOCK_MERGE_H

#include <stdbool.h>

#include "base/list.h"
#include "block/block.h"

/* Requests carried out as one. */
struct block_merged {
    struct block_req req; /* all of them together */
    struct list parts;    /* the requests, linked as the pending ones are */
    struct iovec *iov;    /* to be freed */
};

/*
 * Take those of the pending requests that continue `req`, which is no longer pending. False if
 * there are none, or if there is no memory.
 */
bool block_merge(struct block *block, struct block_req *req, struct block_merged *ret_merged);

#endif
