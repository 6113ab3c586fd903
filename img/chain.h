/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backing chains, without opening all of them at once.
 */
#ifndef MINIVMM_IMG_CHAIN_H
#define MINIVMM_IMG_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/name.h"

/*
 * How far below the image is the one that `base` names, relative to the folder of the
 * image right above it? NULL is any: the image's own backing file. 0, and *ret_depth is 0 if it is
 * not below the image; or -errno with *err filled if one of them cannot be opened.
 */
int chain_find(const struct block_name *image, const char *base, unsigned *ret_depth,
               struct err *err) MUST_CHECK;

/*
 * Is the file with this identity (file_host_identify) the image, its data file, or one of
 * those of an image below it? As far down as the images can be opened.
 */
bool chain_has_file(const struct block_name *image, const uint64_t id[2]);

#endif
