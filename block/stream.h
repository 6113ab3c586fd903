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
 * for it. When all is copied and durable, the image says that it has no backing file, with one
 * write; *ret_dropped are those that it had, for the caller to close.
 *
 * 0; or a negative errno with *err filled, -ECANCELED if the job is: then the image has its backing
 * file, and what was copied already.
 */
int block_stream(struct block *block, struct block_job *job, struct block **ret_dropped,
                 struct err *err) MUST_CHECK;

#endif
