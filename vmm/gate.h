/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate that the thread of each vCPU passes before it enters the guest.
 *
 * Others bring the threads out of the guest here, for a moment or for as long as they like, and
 * give them work. A thread is *inside* while it runs guest code or deals with an exit, and
 * *outside* while it waits here. Whether it may go in is decided under one lock, the one under
 * which work is queued, holds are counted and ends are asked for; so nothing that was asked for is
 * ever missed, and a thread that has been asked for nothing takes no lock.
 *
 * Knows nothing of KVM. The gate outlives its threads.
 */
#ifndef MINIVMM_GATE_H
#define MINIVMM_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/compiler.h"
#include "base/list.h"

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* whatever is below, of the threads too */
    struct list threads;    /* struct gate_thread; written while none is started */
    unsigned nholds;        /* lock: nobody goes in */
    unsigned ninside;       /* lock: threads that are inside */
    unsigned depth;         /* lock: of exclusive sections of `owner`; 0: nobody's */
    pthread_t owner;        /* lock: while depth > 0 */
    /*
     * All threads are outside while somebody holds them; with the lock held: only to post. Or NULL.
     */
    void (*cleared)(struct gate *gate);
};

/* Embedded in a vCPU. */
struct gate_thread {
    struct gate *gate;
    struct list link;
    struct list works;  /* lock: struct gate_work */
    atomic_bool called; /* something was asked for; written with the lock held */
    bool inside;        /* lock */
    bool working;       /* lock: it does what was queued */
    bool ending;        /* lock: it shall not go in again */
    bool kept;          /* lock: it alone is held, whatever the others may do */
    bool expected;      /* lock: it does what is queued: it will begin, or has, and not yet left */
    bool running;       /* lock: its function has begun, and not yet left */
    pthread_t id;       /* lock: while running */
    /*
     * With the lock held. true: bring the thread out of the guest, or keep it from going in, in a
     * way that cannot come too early. false: it may go in again.
     */
    void (*call)(struct gate_thread *thread, bool on);
};

/* What a vCPU's thread shall do; embedded in the object of whoever asks, and valid until it ran. */
struct gate_work {
    void (*run)(struct gate_work *work);
    struct list link;
    bool queued;   /* lock */
    bool by_owner; /* lock: part of the exclusive section under way */
};

void gate_init(struct gate *gate);
void gate_done(struct gate *gate);

/* Before any thread is started; fill in `call`. */
void gate_add(struct gate *gate, struct gate_thread *thread);

/* It is about to be started: work can be queued for it. If that fails: gate_leave. */
void gate_expect(struct gate_thread *thread);

/* ---- the thread itself ----------------------------------------------------------------------- */

/* First of all, after gate_expect. */
void gate_enter(struct gate_thread *thread);

/*
 * Before each entry into the guest: do what was asked for and wait while it is held. False: leave
 * for good.
 */
bool gate_pass(struct gate_thread *thread);

/* Last of all: nobody waits for it any more. What was queued for it has run. */
void gate_leave(struct gate_thread *thread);

/* ---- others ---------------------------------------------------------------------------------- */

/* Make gate_pass return false, also while the thread is held. Any thread. */
void gate_end(struct gate_thread *thread);

/*
 * Let nobody go in until gate_release, which must follow once for each call. Does not wait: see
 * gate_wait_clear and `cleared`. Any thread.
 */
void gate_hold(struct gate *gate);
void gate_release(struct gate *gate);

/*
 * Keep one thread outside, or no longer, beside all holds: so the others go on without it after
 * gate_release, or it goes on without them. Does not wait. Any thread.
 */
void gate_keep(struct gate_thread *thread, bool keep);

/* Wait until all threads are outside. While held, and not on a vCPU's thread. */
void gate_wait_clear(struct gate *gate);

/* Are all threads outside? While held, it stays so, except for work that is being done. */
bool gate_is_clear(struct gate *gate);

/*
 * Bring all threads outside, wait for that, and be the only one who does so until
 * gate_end_exclusive. Sections of one thread nest. On a vCPU's thread too, in the midst of an exit:
 * it counts as outside while it waits for its turn, and afterwards it goes on only when nobody
 * holds it. Or in the midst of work, which is done while somebody holds it, and so goes on at once;
 * but not in work that a section's owner waits for.
 */
void gate_begin_exclusive(struct gate *gate);
void gate_end_exclusive(struct gate *gate);

/*
 * Queue work for a thread, which does it outside the guest, in the order of the calls; work queued
 * already stays queued once. During an exclusive section only work queued by its owner is done.
 * False: the thread does not run, and the work will not. Any thread.
 */
bool gate_post(struct gate_thread *thread, struct gate_work *work) MUST_CHECK;

#endif
