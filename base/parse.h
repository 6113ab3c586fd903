/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text to numbers, strictly: the whole text counts, no sign, no white space, no overflow.
 */
#ifndef MINIVMM_BASE_PARSE_H
#define MINIVMM_BASE_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* Decimal, or hexadecimal with 0x. 0; -EINVAL not a number; -ERANGE does not fit. */
int parse_u64(const char *text, uint64_t *ret_value) MUST_CHECK;

/* A size in bytes with an optional suffix K, M, G or T (powers of 1024, either case). */
int parse_size(const char *text, uint64_t *ret_bytes) MUST_CHECK;

/* "on" or "off". 0, or -EINVAL. */
int parse_on_off(const char *text, bool *ret_value) MUST_CHECK;

#endif
