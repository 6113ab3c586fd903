/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes of the host's kernel, from which nothing can be told of the host or of other random
 * bytes.
 *
 * Any thread.
 */
#ifndef MINIVMM_BASE_RANDOM_H
#define MINIVMM_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

/*
 * Fill `buf`. Never waits; false: the host has no random bytes yet, as in the first moments after
 * its own boot, and what is in `buf` counts for nothing.
 */
bool random_bytes(void *buf, size_t len) MUST_CHECK;

#endif
