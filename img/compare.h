/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing what two disks show. What both have from the same image file, and what is known to be
 * zero on both sides, is never read.
 */
#ifndef MINIVMM_IMG_COMPARE_H
#define MINIVMM_IMG_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "img/progress.h"

struct compare_options {
    struct block *blocks[2]; /* the second may be NULL: compared with zeroes */
    uint64_t from;           /* bytes; inside both disks */
    uint64_t to;
    bool strict; /* what is allocated, and where there are zeroes, has to be the same too */
    struct progress *progress;
    uint64_t progress_len; /* what is all for the progress */
};

enum compare_outcome {
    COMPARE_EQUAL,
    COMPARE_CONTENT, /* differs */
    COMPARE_STATUS,  /* with `strict` */
    COMPARE_NO_STATUS,
    COMPARE_NO_DATA,
};

/* The first that is to be said, in the order of the disk. */
struct compare_result {
    enum compare_outcome outcome;
    uint64_t off;  /* bytes; of a sector, for CONTENT */
    unsigned side; /* NO_STATUS and NO_DATA: which image could not be read, and why */
    int error;
};

/* 0; or -errno with *err filled if nothing could be compared. */
int compare_run(const struct compare_options *options, struct compare_result *ret_result,
                struct err *err) MUST_CHECK;

#endif
