/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: what open.c and create.c need of the format.
 */
#ifndef MINIVMM_BLOCK_RAW_H
#define MINIVMM_BLOCK_RAW_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "block/create.h"
#include "block/driver.h"

extern const struct block_driver raw_driver;

int raw_open(const struct block_source *source, struct block **ret_block,
             struct err *err) MUST_CHECK;

/* Do the options go together? -errno with *err filled. */
int raw_create_check(const struct block_create_options *options, struct err *err) MUST_CHECK;

/* Make an empty file, or a device, an image of options->len bytes, and make that durable. */
int raw_create(const struct block_create_options *options, struct file *file,
               struct err *err) MUST_CHECK;

#endif
