/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making qcow2 images: what block/create.c asks of the format.
 */
#ifndef MINIVMM_BLOCK_QCOW2_IMAGE_CREATE_H
#define MINIVMM_BLOCK_QCOW2_IMAGE_CREATE_H

#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "block/create.h"

/* Check that the options go together. Returns 0, or -errno with *err filled. */
int qcow2_create_check(const struct block_create_options *options, struct err *err) MUST_CHECK;

/*
 * Write an image into an empty file, or a device, and make it durable; `data_file` is empty too, or
 * NULL. The caller has checked the options and set options->len. Returns 0, or -errno with *err
 * filled.
 */
int qcow2_create(const struct block_create_options *options, struct file *file,
                 struct file *data_file, struct err *err) MUST_CHECK;

#endif
