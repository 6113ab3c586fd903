/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent dirty bitmaps: copying those of one image into another one, and messages.
 */
#ifndef MINIVMM_IMG_BITMAPS_H
#define MINIVMM_IMG_BITMAPS_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/image.h"

/* The second line of a message about a bitmap, if there is one. */
void bitmaps_print_hint(const struct err *err);

/*
 * Can the bitmaps of `source` be copied, but for those that are out of date with `skip_broken`?
 * Returns an exit status, and has printed what is wrong.
 */
int bitmaps_check_source(struct block *source, bool skip_broken) MUST_CHECK;

/* Can there be bitmaps in `target`? */
int bitmaps_check_target(const struct block *target) MUST_CHECK;

/* Copy them, each with what it says, in one step. */
int bitmaps_copy(struct block *source, struct block *target, bool skip_broken) MUST_CHECK;

#endif
