/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks on byte ranges, held by coroutines across their waits.
 *
 * Shared holders of overlapping ranges run together; an exclusive holder runs alone in its range.
 * First come, first served, so nobody starves. A coroutine that waits for a range holds none of the
 * lock, which is what makes deadlock impossible. Outside coroutines nothing ever has to wait.
 */
#ifndef MINIVMM_BASE_RANGE_LOCK_H
#define MINIVMM_BASE_RANGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/co.h"
#include "base/list.h"

struct range_lock {
    struct list ranges; /* held and waited for, in the order in which they came */
};

/* Lives on its owner's stack. */
struct range {
    uint64_t off;
    uint64_t len;
    bool exclusive;
    bool waiting;
    struct co *owner;
    struct list link;
};

void range_lock_init(struct range_lock *lock);

/* Wait until no earlier range conflicts with [off, off + len). The sum must not overflow. */
void range_acquire(struct range_lock *lock, struct range *range, uint64_t off, uint64_t len,
                   bool exclusive);

/* The same without waiting: false if a range that came earlier is in the way. */
bool range_try_acquire(struct range_lock *lock, struct range *range, uint64_t off, uint64_t len,
                       bool exclusive);

void range_release(struct range_lock *lock, struct range *range);

#endif
