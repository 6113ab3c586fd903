/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming: an image in use takes over what it shows of its backing files, and needs them no more.
 */
#ifndef MINIVMM_BLOCK_STREAM_H
#define MINIVMM_BLOCK_STREAM_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "block/job.h"

/*
 * In an operation (live.h), not held. Requests go on; those for the piece that is being copied wait
 * for it. What is above `base`, one of the backing files, is copied; NULL: all. When that is
 * durable, the image says that `base` is its backing file, by the name `name`, with one write;
 * *ret_dropped are those that are not needed any more, for the caller to close, or NULL.
 *
 * 0; or a negative errno with *err filled, -ECANCELED if the job is: then the image has its backing
 * files, and what was copied already.
 */
int block_stream(struct block *block, struct block *base, const char *name, struct block_job *job,
                 struct block **ret_dropped, struct err *err) MUST_CHECK;

#endif
