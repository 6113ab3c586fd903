/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wait until a loop that runs on another thread has done what it was told before, and what that led
 * to; its thread's data can be looked at then.
 */
#ifndef MINIVMM_TESTS_SETTLE_H
#define MINIVMM_TESTS_SETTLE_H

#include "base/loop.h"

static inline void settle_nothing_(void *opaque)
{
}

/* A kick is served in one round, what that posts in the next, and so on. */
static inline void settle(struct loop *loop)
{
    for (int i = 0; i < 8; i++)
        loop_call(loop, settle_nothing_, NULL);
}

#endif
