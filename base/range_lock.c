/* SPDX-License-Identifier: Apache-2.0 */
#include "base/range_lock.h"

#include <assert.h>

#include "base/bytes.h"

void range_lock_init(struct range_lock *lock)
{
    list_init(&lock->ranges);
}

/* Does a range that came before this one, held or waiting itself, stand in its way? */
static bool is_blocked(const struct range_lock *lock, const struct range *range)
{
    list_for_each (item, &lock->ranges) {
        const struct range *other = container_of(item, struct range, link);

        if (other == range)
            return false;
        if ((other->exclusive || range->exclusive) &&
            ranges_overlap(other->off, other->len, range->off, range->len))
            return true;
    }
    return false;
}

/* Join the queue; range->waiting says whether somebody is in the way. */
static void join(struct range_lock *lock, struct range *range, uint64_t off, uint64_t len,
                 bool exclusive)
{
    range->off = off;
    range->len = len;
    range->exclusive = exclusive;
    range->owner = co_self();
    list_add_tail(&lock->ranges, &range->link);
    range->waiting = is_blocked(lock, range);
}

void range_acquire(struct range_lock *lock, struct range *range, uint64_t off, uint64_t len,
                   bool exclusive)
{
    join(lock, range, off, len, exclusive);
    while (range->waiting) {
        assert(range->owner);
        co_suspend();
    }
}

bool range_try_acquire(struct range_lock *lock, struct range *range, uint64_t off, uint64_t len,
                       bool exclusive)
{
    join(lock, range, off, len, exclusive);
    if (range->waiting)
        list_remove(&range->link); /* nobody came later and waits for it */
    return !range->waiting;
}

void range_release(struct range_lock *lock, struct range *range)
{
    struct list *next = range->link.next;

    list_remove(&range->link);
    for (; next != &lock->ranges; next = next->next) {
        struct range *other = container_of(next, struct range, link);

        if (other->waiting && ranges_overlap(other->off, other->len, range->off, range->len) &&
            !is_blocked(lock, other)) {
            other->waiting = false;
            co_wake(other->owner);
        }
    }
}
