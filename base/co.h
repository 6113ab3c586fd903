/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coroutines: functions that wait in the middle and let their thread go on with something else.
 *
 * A request of the disk engine reads from top to bottom although it waits for the host several
 * times. A coroutine runs on a stack of its own, on one thread for all its life, and gives way only
 * inside co_suspend; between two suspensions nothing else of its scheduler runs, so what it sees
 * stays as it is.
 *
 * Stacks are mapped when a coroutine starts, have a guard page, and are kept for the next one; a
 * scheduler that went idle keeps CO_IDLE_STACKS of them. Only touched pages cost memory.
 *
 * A scheduler belongs to one thread; nothing here takes a lock.
 */
#ifndef MINIVMM_BASE_CO_H
#define MINIVMM_BASE_CO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"

#define CO_IDLE_STACKS 4

/* What the coroutines of a scheduler may do in a round (co_give_way), in bytes. */
#define CO_ROUND_MAX (32u << 20)

struct co;

struct co_sched {
    struct list ready; /* coroutines to be resumed, in order */
    struct list later; /* to be resumed in the next round */
    uint64_t spent;    /* in this round, see co_give_way */
    struct list idle;  /* stacks kept for the next coroutine */
    unsigned nidle;
    unsigned live; /* started and not ended */
};

void co_sched_init(struct co_sched *sched);

/* No coroutine may be live. */
void co_sched_done(struct co_sched *sched);

/*
 * Start fn(opaque) in a new coroutine; it first runs in the next co_sched_run.
 * 0, or -ENOMEM if there is no memory for a stack.
 */
int co_start(struct co_sched *sched, void (*fn)(void *opaque), void *opaque) MUST_CHECK;

/* Run coroutines until none is ready. Returns whether any ran. Not from inside a coroutine. */
bool co_sched_run(struct co_sched *sched);

/* A new round: those that gave way are ready again. */
void co_sched_next_round(struct co_sched *sched);

/* Do any wait for the next round? */
bool co_sched_gave_way(const struct co_sched *sched);

/* Unmap the stacks that an idle scheduler need not keep. */
void co_sched_trim(struct co_sched *sched);

/* Unmap all stacks that no coroutine uses: there will be no work for a while. */
void co_sched_release(struct co_sched *sched);

/* The running coroutine, or NULL outside of any. */
struct co *co_self(void);

/* Wait until somebody calls co_wake. Inside a coroutine only. */
void co_suspend(void);

/* Make a suspended coroutine ready. Once per suspension, on its thread. */
void co_wake(struct co *co);

/*
 * To be called before each piece of work that may be one of very many; `cost` is about how many
 * bytes the piece touches. Once CO_ROUND_MAX were spent in a round, it suspends the coroutine until
 * the next round. Outside of coroutines it does nothing.
 */
void co_give_way(uint64_t cost);

/* The same, and -ECANCELED if the work is not wanted any more; else 0. */
int co_turn(uint64_t cost) MUST_CHECK;

/*
 * The running coroutine's work, and that of coroutines which it starts from now on, is not wanted
 * any more once *cancel is true; any thread may set it, atomically.
 */
void co_set_cancel(const bool *cancel);

/* Coroutines that wait for a condition, woken in the order in which they came. */
struct co_queue {
    struct list waiting;
};

void co_queue_init(struct co_queue *queue);
void co_queue_wait(struct co_queue *queue);
bool co_queue_wake_one(struct co_queue *queue); /* false: nobody waits */
void co_queue_wake_all(struct co_queue *queue);

/*
 * Mutual exclusion across suspensions, first come first served. Code that runs outside coroutines
 * may lock too: it never waits, because nothing else runs then that could hold the lock.
 */
struct co_mutex {
    bool locked;
    struct co_queue queue;
};

void co_mutex_init(struct co_mutex *mutex);
void co_mutex_lock(struct co_mutex *mutex);
void co_mutex_unlock(struct co_mutex *mutex);

/*
 * Parts of one job that are done side by side: each in a coroutine of its own, while the one that
 * made the group does its own part and then waits for them.
 */
struct co_group {
    unsigned live;
    struct co *waiter; /* in co_group_wait; NULL: not yet */
    int result;        /* the first failure */
};

void co_group_init(struct co_group *group);

/*
 * Start fn(opaque) in a new coroutine of the running one's scheduler; it ends with co_group_done.
 * -EAGAIN outside of coroutines, or if CO_GROUP_MAX coroutines are live: the caller does the part
 * itself. -ENOMEM if there is no memory for a stack.
 */
#define CO_GROUP_MAX 256u
int co_group_start(struct co_group *group, void (*fn)(void *opaque), void *opaque) MUST_CHECK;

/* A part is finished, with 0 or -errno. The last thing that its coroutine does. */
void co_group_done(struct co_group *group, int result);

/* Wait for all parts. 0, or what the first of them that failed returned. */
int co_group_wait(struct co_group *group);

#endif
