/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work in pieces, shared between two threads where there are two CPUs: most of the time of loading
 * goes into the page faults of fresh memory, and those scale.
 */
#ifndef MINIVMM_BOOT_WORKERS_H
#define MINIVMM_BOOT_WORKERS_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

/* Carry out piece `i`. 0, or a negative errno with *err filled. Any thread. */
typedef int workers_fn(void *opaque, size_t i, struct err *err);

/*
 * Carry out pieces 0 to n - 1, started in this order; a worker stops at its first failure. 0, or
 * the negative errno of a piece that failed, with *err filled; no thread is left behind.
 */
int workers_run(size_t n, workers_fn *fn, void *opaque, struct err *err) MUST_CHECK;

#endif
