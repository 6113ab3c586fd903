/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t state;

void random_seed(void)
{
    const char *seed = getenv("GUEST_SEED");

    state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) << 16 | (uint64_t)getpid();
    state |= 1;
    printf("GUEST_SEED=%" PRIu64 "\n", state);
    fflush(stdout);
}

/* xorshift64*: good enough to hit what nobody thought of, and the same everywhere. */
uint64_t random_u64(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}
