/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seed for the kernel's random number generator: an entry of the list that the zero page leads to
 * (struct setup_data, SETUP_RNG_SEED; Linux 6.0 and later read it).
 */
#ifndef MINIVMM_BOOT_SEED_X86_H
#define MINIVMM_BOOT_SEED_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/* Linux counts 256 bits as enough for its generator to be ready. */
#define SEED_LEN 32u
#define SEED_ENTRY_SIZE (16u + SEED_LEN)

/*
 * Fill the entry, the last of the list, with fresh random bytes; no copy of them stays here. False:
 * the host has none yet, and `entry` is zero.
 */
bool seed_fill(uint8_t entry[SEED_ENTRY_SIZE]) MUST_CHECK;

#endif
