/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on an attached image, while requests come.
 *
 * An operation is a function in a coroutine of the image's loop. Between block_hold and
 * block_release it has the image for itself, and may do what is done to images that are not
 * attached (image_ops.h). It is not cancelled with the requests. block_detach waits for it.
 */
#ifndef MINIVMM_BLOCK_LIVE_H
#define MINIVMM_BLOCK_LIVE_H

#include "base/compiler.h"
#include "block/block.h"

/* Start fn(opaque), on the loop's thread. No other operation is under way. 0, or -ENOMEM. */
int block_live_start(struct block *block, void (*fn)(void *opaque), void *opaque) MUST_CHECK;

/*
 * To end: let the operation under way go on for a step. False: there is none. Outside of it. The
 * image that has the requests may be another one afterwards.
 */
bool block_live_wait(struct block *block);

/*
 * In an operation: run fn(opaque) on another thread and wait for it, for what would keep the loop
 * waiting for the host. It does not touch the image.
 */
void block_live_elsewhere(struct block *block, void (*fn)(void *opaque), void *opaque);

#endif
