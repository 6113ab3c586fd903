/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding zeroes in memory, as fast as memory can be read.
 */
#ifndef MINIVMM_IMG_ZERO_SCAN_H
#define MINIVMM_IMG_ZERO_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

bool zero_scan_all(const void *buf, size_t len) MUST_CHECK;

/*
 * The row of like units at the beginning of a buffer that stands for bytes [off, off + len) of a
 * disk: whether they are zeroes, and how many bytes they are (> 0; `len` > 0). Units begin at
 * multiples of `unit`, a power of two. Zeroes between data belong to it if they are fewer than
 * `min` bytes; at the ends of the buffer they do not.
 */
size_t zero_scan_run(const void *buf, size_t len, uint64_t off, size_t unit, size_t min,
                     bool *ret_zero) MUST_CHECK;

#endif
