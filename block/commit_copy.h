/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What commits of a chain in use have in common: an image below takes over what those above it
 * have, piece by piece, while it is read through them.
 *
 * The base is written although it is a backing file. Until it takes the place of the images above
 * it, these hide all that it gets: so the disk shows the same at any moment.
 */
#ifndef MINIVMM_BLOCK_COMMIT_COPY_H
#define MINIVMM_BLOCK_COMMIT_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/co.h"
#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "block/job.h"

/* Looked at, or copied, between two looks at what is wanted of the job. */
#define COMMIT_PIECE ((size_t)1 << 20)

struct commit_copy {
    struct block *top;       /* what it and those between have is copied */
    struct block *base;      /* below `top` */
    struct block_job *job;   /* hears of what fails */
    struct co_mutex copying; /* an extent: what was read first is written first */
    void *buf;
    bool refused; /* the base takes no such first sector */
};

/* 0; or -ENOMEM with *err filled. In either case end with commit_copy_done. */
int commit_copy_init(struct commit_copy *copy, struct block *top, struct block *base,
                     struct block_job *job, struct err *err) MUST_CHECK;
void commit_copy_done(struct commit_copy *copy);

/*
 * Open and lock the base for writing, and make it as long as the top. The image that has the
 * requests is held. 0; or a negative errno with *err filled, and the base is as it was, although it
 * may be longer.
 */
int commit_copy_begin(const struct commit_copy *copy, struct err *err) MUST_CHECK;

/*
 * Copy the first extent of a range to the base, if it has to be. *ret_len is its length, and
 * *copied grows by what was moved.
 */
int commit_copy_extent(struct commit_copy *copy, uint64_t off, uint64_t len, uint64_t *ret_len,
                       uint64_t *copied) MUST_CHECK;

/* Why the commit failed with `error`; returns it. */
int commit_copy_explain(const struct commit_copy *copy, int error, struct err *err);

#endif
