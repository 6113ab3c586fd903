/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that begin where another one ends are carried out with it as one. A guest may write a
 * file from front to back in many small requests. Each of them would cost an operation of the host,
 * and in a new image all of them would wait for the one that allocates their cluster.
 */
#include "block/merge.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "block/driver.h"

/* Longer requests are faster apart: the host works on several of them at a time. */
#define MERGED_LEN_MAX (256u << 10)

static bool goes_on(const struct block_req *req, uint64_t off, const struct block_req *next)
{
    return next->op == req->op && next->flags == req->flags && next->off == off;
}

/*
 * Count the requests at the head of the pending ones that continue `req`. *ret_len and *ret_niov
 * are those of `req` and of these together.
 */
static unsigned count_followers(const struct block *block, const struct block_req *req,
                                uint64_t *ret_len, unsigned *ret_niov)
{
    uint64_t len = req->len;
    unsigned niov = req->niov;
    unsigned n = 0;

    list_for_each (pos, &block->pending) {
        const struct block_req *next = container_of(pos, struct block_req, link);

        if (!goes_on(req, req->off + len, next) || len + next->len > MERGED_LEN_MAX ||
            niov + next->niov > FILE_IOV_MAX)
            break;
        len += next->len;
        niov += next->niov;
        n++;
    }
    *ret_len = len;
    *ret_niov = niov;
    return n;
}

static void append(struct block_merged *merged, struct iovec *iov, struct block_req *req)
{
    for (unsigned i = 0; i < req->niov; i++)
        iov[merged->req.niov++] = req->iov[i];
    list_add_tail(&merged->parts, &req->link);
}

bool block_merge(struct block *block, struct block_req *req, struct block_merged *ret_merged)
{
    struct block_req *whole = &ret_merged->req;
    struct iovec *iov;
    uint64_t len;
    unsigned niov;
    unsigned n;

    if ((req->op != BLOCK_READ && req->op != BLOCK_WRITE) ||
        (block->without & BLOCK_WITHOUT_MERGE_REQS))
        return false;
    n = count_followers(block, req, &len, &niov);
    iov = n > 0 ? malloc(niov * sizeof(*iov)) : NULL;
    if (!iov)
        return false;

    *whole = (struct block_req){.op = req->op, .flags = req->flags, .off = req->off, .len = len};
    list_init(&ret_merged->parts);
    append(ret_merged, iov, req);
    for (; n > 0; n--) {
        struct list *next = list_first(&block->pending);

        list_remove(next);
        append(ret_merged, iov, container_of(next, struct block_req, link));
        block->stats.merged_reqs++;
    }
    whole->iov = iov;
    ret_merged->iov = iov;
    return true;
}
