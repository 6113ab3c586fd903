/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to wait before something is tried again that keeps failing: 100 ms, then twice as long
 * each time, up to BACKOFF_MAX_NS. What has held for longer than that begins anew.
 */
#ifndef MINIVMM_NET_BACKOFF_H
#define MINIVMM_NET_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)

/* All zero to begin with. */
struct backoff {
    uint64_t last_ns;  /* the last wait; 0: none yet */
    uint64_t since_ns; /* when it last succeeded; 0: it has not since the last wait */
};

/* It was tried, and works for now. */
static inline void backoff_succeed(struct backoff *backoff)
{
    backoff->since_ns = monotonic_ns();
}

/* It does not work, or not any more: how long to wait now. */
static inline uint64_t backoff_next(struct backoff *backoff)
{
    const bool held = backoff->since_ns != 0 && monotonic_ns() - backoff->since_ns > BACKOFF_MAX_NS;

    backoff->since_ns = 0;
    if (held || backoff->last_ns == 0)
        backoff->last_ns = BACKOFF_MIN_NS;
    else
        backoff->last_ns =
            backoff->last_ns * 2 < BACKOFF_MAX_NS ? backoff->last_ns * 2 : BACKOFF_MAX_NS;
    return backoff->last_ns;
}

#endif
