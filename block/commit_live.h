/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committing an image in use: one below it takes over what it has, and then the requests.
 */
#ifndef MINIVMM_BLOCK_COMMIT_LIVE_H
#define MINIVMM_BLOCK_COMMIT_LIVE_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "block/job.h"

struct block_commit_live {
    bool moved;            /* the base has the requests now, and is held; `top` is the caller's */
    struct block *dropped; /* images that are not needed any more, for the caller to close; NULL */
};

/*
 * In an operation (live.h), not held. `base` is below `top`, and takes over what `top` and those
 * between the two have. Requests go on; what they change meanwhile is copied again. The job is
 * ready when hardly anything is left, and waits until it is to be completed. At last the image is
 * held, the rest is copied and made durable. Unless the requests are to stay (job->stay), the image
 * says that `base` is right below it, by the name `name`, it is emptied, each with one write of its
 * header, and the requests move to `base`.
 *
 * After a crash at any moment the image shows the disk, by way of the base at the end.
 *
 * 0; or a negative errno with *err filled, -ECANCELED if the job is: then the image has its
 * requests, and is not held. *ret_done is set in either case.
 */
int block_commit_live(struct block *top, struct block *base, const char *name,
                      struct block_job *job, struct block_commit_live *ret_done,
                      struct err *err) MUST_CHECK;

#endif
