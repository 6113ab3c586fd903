/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making an image independent of where its backing file and another one differ: what it shows there
 * is written into it. The image shows the same at any moment, so this may be interrupted.
 */
#ifndef MINIVMM_IMG_REBASE_H
#define MINIVMM_IMG_REBASE_H

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "img/progress.h"

struct rebase_options {
    struct block *image; /* writable, on its old backing files */
    struct block *base;  /* the new one; NULL: none */
    struct progress *progress;
};

/* 0, or a negative errno with *err filled. What was written is durable. */
int rebase_run(const struct rebase_options *options, struct err *err) MUST_CHECK;

#endif
