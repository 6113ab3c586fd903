/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes as qemu-img takes and prints them.
 */
#ifndef MINIVMM_IMG_SIZE_H
#define MINIVMM_IMG_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/*
 * Bytes: a whole number, decimal or hexadecimal, or one with a fraction and a unit (b, k, M, G, T,
 * P, E; powers of 1024). 0; -EINVAL: that is no size; -ERANGE: it does not fit.
 */
int size_parse(const char *text, uint64_t *ret_bytes) MUST_CHECK;

/*
 * The same for an argument, which the messages call `what`, at least `min` and at most `max`,
 * itself at most INT64_MAX. Prints what is wrong.
 */
int size_arg(const char *what, const char *text, uint64_t min, uint64_t max,
             uint64_t *ret_bytes) MUST_CHECK;

/* "1.5 GiB": three digits count. Returns `buf`. */
#define SIZE_TEXT_MAX 32
const char *size_text(uint64_t bytes, char buf[SIZE_TEXT_MAX]);

#endif
