/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers that follow from a seed, and differ thoroughly for seeds that hardly do.
 */
#ifndef MINIVMM_TESTS_DICE_H
#define MINIVMM_TESTS_DICE_H

#include <stdint.h>

/* The next number of a sequence (splitmix64); the state is any number, the seed at first. */
static inline uint64_t dice_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static inline unsigned dice_roll(uint64_t *state, unsigned below)
{
    return below > 1 ? (unsigned)(dice_next(state) % below) : 0;
}

#endif
