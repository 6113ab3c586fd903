/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as people read them.
 */
#ifndef MINIVMM_CTL_AMOUNT_H
#define MINIVMM_CTL_AMOUNT_H

#include <stdint.h>

#define AMOUNT_MAX 32

/* Each returns `buf`. */
const char *amount_size(uint64_t bytes, char buf[AMOUNT_MAX]);    /* "1.5 GiB" */
const char *amount_rate(double per_second, char buf[AMOUNT_MAX]); /* "0.4", "12", "3.4k" */
const char *amount_span(uint64_t seconds, char buf[AMOUNT_MAX]);  /* "42s", "3h 07m", "5d 02h" */

#endif
