/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of images on a command line. What qemu-img takes there: those of block/name.h,
 * and with --image-opts a description as a list:
 *
 *   driver=qcow2,file.filename=path
 */
#ifndef MINIVMM_IMG_NAME_H
#define MINIVMM_IMG_NAME_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/name.h"

/* 0 or -errno with *err filled; to be freed with block_name_done either way. */
int img_name_parse(const char *text, bool image_opts, struct block_name *ret_name,
                   struct err *err) MUST_CHECK;

/* The same for an image that is to be made, of which there is nothing yet to be described. */
int img_name_parse_new(const char *text, struct block_name *ret_name, struct err *err) MUST_CHECK;

/* Can one of this format be made at `path`? A device is there already. 0 or -errno, *err filled. */
int img_name_check_new(const char *path, const char *format, struct err *err) MUST_CHECK;

/* Does a list of options say that an image is not to be shared, as -U would have it? */
bool img_name_denies_share(const char *list);

/* Is it a format that QEMU has, and block/ has not? */
bool img_format_is_foreign(const char *text);

/* A format by name, for block/. 0; -EINVAL if it is not known. */
int img_format_parse(const char *text, enum block_format *ret_format) MUST_CHECK;

#endif
