/*
 * Operations on whole images, for the image tool:
 *
 *   create.h      making them
 *   image_ops.h   details, bitmaps, backing file, resize, amend, snapshots, check
 *   commit.h      writing one into its backing file
 *
 * They run straight through on the calling thread, on images that are not attached, with no request
 * in flight. An operation that fails, or is cut short by a power failure, leaves an image that is
 * consistent and shows either what it showed before or the operation's result; what each promises
 * beyond that is said where it is declared.
 */
#ifndef MINIVMM_BLOCK_IMAGE_H
#define MINIVMM_BLOCK_IMAGE_H

#include "block/block.h"
#include "block/commit.h"
#include "block/create.h"
#include "block/image_ops.h"

#endif
