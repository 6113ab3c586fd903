/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of a disk, as arguments of block_set_io_throttle: that command sets all of them at once.
 */
#ifndef MINIVMM_CTL_LIMITS_H
#define MINIVMM_CTL_LIMITS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * The limits in what query-block says of a medium ("inserted"), to be freed; NULL stands for none.
 */
json_t *limits_of(const json_t *inserted);

/*
 * Change one: "KEY=VALUE", where KEY is one of --disk (bps, iops_rd_max, …), and VALUE a number or
 * a size, 0 for no limit. 0, or -EINVAL with *err filled.
 */
int limits_set(json_t *limits, const char *text, struct err *err) MUST_CHECK;

/* No limits at all. */
void limits_clear(json_t *limits);

/* Is that the value of a limit, or only what belongs to another one? */
bool limits_is_set(const json_t *limits, const char *key);

/* Keys in the order in which they are shown; NULL behind the last. */
extern const char *const limits_keys[];

#endif
