/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop on epoll: file descriptors, timers, and work posted by other threads.
 *
 * One thread runs a loop; everything but loop_post, loop_call and loop_stop is called on that
 * thread, or before it runs. Watches, timers and work items are embedded in the caller's objects
 * and belong to the caller. An idle loop sleeps in epoll_wait without a time-out, unless somebody
 * has a better place for it (loop_set_sleep).
 */
#ifndef MINIVMM_BASE_LOOP_H
#define MINIVMM_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/compiler.h"
#include "base/list.h"

struct loop;

struct loop_fd {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT, …; 0 is allowed and means: errors and hang-ups only */
    void (*ready)(struct loop_fd *watch, uint32_t events);
    struct loop *loop; /* NULL while not added */
};

struct loop_timer {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    void (*expired)(struct loop_timer *timer);
    struct list link;
    struct loop *loop; /* NULL while not armed */
};

struct loop_work {
    void (*run)(struct loop_work *work);
    struct list link;
    bool queued; /* owner: the loop's lock */
};

/* 0 or -errno. */
int loop_new(struct loop **ret_loop) MUST_CHECK;

/* Nothing may be watched, armed or queued any more. NULL is fine. */
void loop_free(struct loop *loop);

/*
 * Run until loop_stop. Returns 0, or -errno if epoll fails. A loop that was stopped can be run
 * again.
 */
int loop_run(struct loop *loop) MUST_CHECK;

/* Make loop_run return after the callbacks of this round. Any thread; not a signal handler. */
void loop_stop(struct loop *loop);

/*
 * Start to watch; fill in fd, events and ready first. A callback may remove any watch, its own
 * included: a watch that was removed is never called again, even in the same round.
 * 0 or -errno (-EPERM: a regular file, which epoll refuses).
 */
int loop_add_fd(struct loop *loop, struct loop_fd *watch) MUST_CHECK;
int loop_set_events(struct loop_fd *watch, uint32_t events) MUST_CHECK;
void loop_remove_fd(struct loop_fd *watch); /* harmless when not added */

/* Arm or re-arm a one-shot timer to fire `after_ns` from now; `expired` is set by the caller. */
void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t after_ns);
void loop_disarm(struct loop_timer *timer); /* harmless when not armed */

/*
 * Queue work to be run on the loop's thread; from any thread. Work already queued stays queued
 * once. The item must stay valid until it ran; it may free or post itself again in `run`.
 */
void loop_post(struct loop *loop, struct loop_work *work);

/*
 * Take work back that may be queued; it does not run afterwards unless it is posted again. On the
 * loop's thread, or while the loop does not run.
 */
void loop_cancel(struct loop *loop, struct loop_work *work);

/*
 * Run `fn(opaque)` on the loop's thread and wait until it returned. From another thread, while
 * the loop runs; called on the loop's own thread it runs fn directly.
 */
void loop_call(struct loop *loop, void (*fn)(void *opaque), void *opaque);

/*
 * One hook, called each time just before the loop sleeps: the place to submit batched I/O. It
 * returns whether it has more to do: then the loop only looks at what is ready and calls it again.
 * NULL removes it.
 */
void loop_set_before_sleep(struct loop *loop, bool (*fn)(void *opaque), void *opaque);

enum loop_slept {
    LOOP_SLEEP_IN_EPOLL, /* it did not sleep: the loop does */
    LOOP_FDS_READY,      /* something that the loop watches may be ready */
    LOOP_FDS_NOT_READY,  /* time is up, or it is awake for a reason of its own */
};

/*
 * Another hook, which sleeps instead of the loop: until epoll_fd is readable, for timeout_ms (0:
 * not at all, -1: any time) at most, or until something happens that the loop does not watch. NULL
 * removes it.
 */
void loop_set_sleep(struct loop *loop,
                    enum loop_slept (*fn)(void *opaque, int epoll_fd, int timeout_ms),
                    void *opaque);

#endif
