/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing an image into its backing file.
 */
#ifndef MINIVMM_BLOCK_COMMIT_H
#define MINIVMM_BLOCK_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

struct block_commit_options {
    bool keep; /* leave the image as it is, for the caller to remove; else it is emptied */

    /* Called now and then with how much of the disk is done, if not NULL. */
    void (*progress)(void *opaque, uint64_t done, uint64_t len);
    void *opaque;
};

/*
 * Write what is in an image, and in those between, into the backing file that was opened for
 * writing (block_options.write_backing). It grows to the image's length if it is shorter. Only what
 * is allocated is read, and zeroes are not written as data.
 *
 * When all of it is durable, the image is emptied, unless `keep` says otherwise. A crash at any
 * moment leaves the disk as it was. Images between the two become wrong where they show data of the
 * backing file that has changed, so with write_backing > 1 `keep` has to be given.
 */
int block_commit(struct block *block, const struct block_commit_options *options,
                 struct err *err) MUST_CHECK;

#endif
