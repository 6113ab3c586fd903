/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committing an image in use: its backing file takes over what it has, and then the requests.
 */
#ifndef MINIVMM_BLOCK_COMMIT_LIVE_H
#define MINIVMM_BLOCK_COMMIT_LIVE_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "block/job.h"

/*
 * In an operation (live.h), not held. Requests go on; what they change meanwhile is copied again.
 * At last the image is held, the rest is copied and made durable, the image is emptied with one
 * write of its header, and the requests move to *ret_base, its backing file, which is held then.
 * `top` is the caller's to close.
 *
 * After a crash at any moment the image shows the disk, by way of its backing file at the end.
 *
 * 0; or a negative errno with *err filled, -ECANCELED if the job is: then the image has its
 * requests, and is not held.
 */
int block_commit_live(struct block *top, struct block_job *job, struct block **ret_base,
                      struct err *err) MUST_CHECK;

#endif
