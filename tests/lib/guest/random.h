/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers for guests that nobody thought of. GUEST_SEED=N in the environment repeats a run.
 */
#ifndef MINIVMM_TESTS_RANDOM_H
#define MINIVMM_TESTS_RANDOM_H

#include <stdint.h>

/* Begin, and print the seed. */
void random_seed(void);

uint64_t random_u64(void);
uint64_t random_below(uint64_t limit);

#endif
