/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committing images of a chain in use that are only read: one further down takes over what they
 * have, and they are not needed any more. The image that has the requests goes on as it is.
 */
#ifndef MINIVMM_BLOCK_COMMIT_MIDDLE_H
#define MINIVMM_BLOCK_COMMIT_MIDDLE_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "block/job.h"

struct block_middle {
    struct block *active;  /* has the requests */
    struct block *overlay; /* it, or one below it; its backing file is `top` */
    struct block *base;    /* below `top` */
    const char *name;      /* of the base, for the overlay's header */
};

/*
 * In an operation (live.h), not held. What `top` and those between it and the base have is copied.
 * When that is durable, the overlay says that the base is its backing file, with one write;
 * *ret_dropped are those that are not needed any more, for the caller to close, or NULL. After a
 * crash at any moment the chain shows the disk.
 *
 * 0; or a negative errno with *err filled, -ECANCELED if the job is: then the chain is as it was.
 */
int block_commit_middle(const struct block_middle *middle, struct block_job *job,
                        struct block **ret_dropped, struct err *err) MUST_CHECK;

#endif
