/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large the file of a new image will be, by the rules of `qemu-img measure`.
 */
#ifndef MINIVMM_IMG_MEASURE_H
#define MINIVMM_IMG_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/image.h"

/* Bytes. */
struct measure {
    uint64_t required; /* for the image that was given, or an empty disk */
    uint64_t full;     /* when all of the disk has been written */
    bool has_bitmaps;
    uint64_t bitmaps; /* for those of the image that was given */
};

/*
 * The file of an image with these options. `create->len` counts if `block` is NULL; else what it
 * shows is to be in the new image. 0 or -errno with *err filled.
 */
int measure(const struct block_create_options *create, struct block *block,
            struct measure *ret_measure, struct err *err) MUST_CHECK;

#endif
