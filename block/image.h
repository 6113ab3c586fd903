/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on whole images, for the image tool:
 *
 *   create.h      making them
 *   image_ops.h   details, bitmaps, backing file, resize, amend, snapshots, check
 *   commit.h      writing one into its backing file
 *
 * They run straight through on the calling thread, on images that are not attached, with no request
 * in flight. An operation that fails, or that a power failure interrupts, leaves a consistent image
 * that shows either what it showed before or the result. Each declaration says what the operation
 * promises beyond that.
 */
#ifndef MINIVMM_BLOCK_IMAGE_H
#define MINIVMM_BLOCK_IMAGE_H

#include "block/block.h"
#include "block/commit.h"
#include "block/create.h"
#include "block/image_ops.h"

#endif
