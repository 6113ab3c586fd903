/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leaky bucket, for limits on a rate. What happens fills it, and it leaks at the rate. As long as
 * it is not overfull the next thing may happen, and may overfill it: so things of any size come
 * through, and those after them wait.
 *
 * Nothing here knows the time: the caller says how much of it has passed. One thread.
 */
#ifndef MINIVMM_BASE_BUCKET_H
#define MINIVMM_BASE_BUCKET_H

#include <stdint.h>

/* All zero is an empty one. */
struct bucket {
    double level;
};

static inline void bucket_fill(struct bucket *bucket, double units)
{
    bucket->level += units;
}

void bucket_leak(struct bucket *bucket, double rate, double seconds);

/*
 * How long until it is not fuller than `size`. An hour at most: rates may change meanwhile, and the
 * caller looks again.
 */
uint64_t bucket_wait_ns(const struct bucket *bucket, double rate, double size);

#endif
