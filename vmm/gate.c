/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gate.h"

#include <assert.h>

#include "base/bytes.h"

void gate_init(struct gate *gate)
{
    *gate = (struct gate){.nholds = 0};
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    list_init(&gate->threads);
}

void gate_done(struct gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

void gate_add(struct gate *gate, struct gate_thread *thread)
{
    thread->gate = gate;
    list_init(&thread->works);
    list_add_tail(&gate->threads, &thread->link);
}

void gate_expect(struct gate_thread *thread)
{
    pthread_mutex_lock(&thread->gate->lock);
    thread->expected = true;
    pthread_mutex_unlock(&thread->gate->lock);
}

/* ---- with the lock held ---------------------------------------------------------------------- */

static bool is_owner(const struct gate *gate)
{
    return gate->depth > 0 && pthread_equal(gate->owner, pthread_self());
}

/* The calling thread, if it is one of the gate's. */
static struct gate_thread *self(const struct gate *gate)
{
    list_for_each (link, &gate->threads) {
        struct gate_thread *thread = container_of(link, struct gate_thread, link);

        if (thread->running && pthread_equal(thread->id, pthread_self()))
            return thread;
    }
    return NULL;
}

static void call_out(struct gate_thread *thread)
{
    if (!thread->running)
        return;
    atomic_store(&thread->called, true);
    thread->call(thread, true);
}

static void call_all_out(struct gate *gate)
{
    list_for_each (link, &gate->threads)
        call_out(container_of(link, struct gate_thread, link));
}

static void set_inside(struct gate_thread *thread, bool inside)
{
    struct gate *gate = thread->gate;

    if (thread->inside == inside)
        return;
    thread->inside = inside;
    gate->ninside += inside ? 1 : -1u;
    pthread_cond_broadcast(&gate->changed);
    if (gate->ninside == 0 && gate->nholds > 0 && gate->cleared)
        gate->cleared(gate);
}

/* The first work that may run now, taken from the queue; NULL: none. */
static struct gate_work *take_work(struct gate_thread *thread)
{
    list_for_each (link, &thread->works) {
        struct gate_work *work = container_of(link, struct gate_work, link);

        if (thread->gate->depth > 0 && !work->by_owner)
            continue;
        list_remove(&work->link);
        work->queued = false;
        return work;
    }
    return NULL;
}

/*
 * Work of a section's owner finds the thread outside, as the owner does. Other work runs inside, so
 * that a section that begins waits for its end.
 */
static bool run_work(struct gate_thread *thread)
{
    struct gate *gate = thread->gate;
    struct gate_work *work = take_work(thread);
    bool nested = thread->working;

    if (!work)
        return false;
    if (gate->depth == 0)
        set_inside(thread, true);
    thread->working = true;
    pthread_mutex_unlock(&gate->lock);
    work->run(work);
    pthread_mutex_lock(&gate->lock);
    thread->working = nested;
    return true;
}

/* Sleep until something changed; a thread of the gate is outside meanwhile, and does its work. */
static void wait_outside(struct gate *gate, struct gate_thread *thread)
{
    if (thread) {
        if (run_work(thread))
            return;
        set_inside(thread, false);
    }
    pthread_cond_wait(&gate->changed, &gate->lock);
}

/* With the lock held: it may not go in, unless it shall end. */
static bool is_held(const struct gate_thread *thread)
{
    return (thread->gate->nholds > 0 || thread->kept) && !thread->ending;
}

/*
 * A thread of the gate that waited in the midst of an exit touches devices as soon as it goes on:
 * not while somebody holds it, except for its own section. One that shall end does so after a pause
 * that nobody ends, but not in the midst of a section. Work touches no devices, and a pause may
 * last: whoever waits for it would wait for ever.
 */
static void go_on(struct gate *gate, struct gate_thread *thread)
{
    if (!thread || is_owner(gate))
        return;
    while (gate->depth > 0 || (is_held(thread) && !thread->working))
        wait_outside(gate, thread);
    set_inside(thread, true);
}

/* ---- the thread itself ----------------------------------------------------------------------- */

void gate_enter(struct gate_thread *thread)
{
    pthread_mutex_lock(&thread->gate->lock);
    thread->id = pthread_self();
    thread->running = true;
    /* Holds and ends of the time before are looked at by the first gate_pass. */
    atomic_store(&thread->called, true);
    pthread_mutex_unlock(&thread->gate->lock);
}

bool gate_pass(struct gate_thread *thread)
{
    struct gate *gate = thread->gate;
    bool ending;

    if (!atomic_load(&thread->called))
        return true;
    pthread_mutex_lock(&gate->lock);
    for (;;) {
        if (run_work(thread))
            continue;
        if (!is_held(thread))
            break;
        wait_outside(gate, thread);
    }
    ending = thread->ending;
    if (!ending) {
        /* Under the lock: whoever asks for something from here on calls the thread out again. */
        atomic_store(&thread->called, false);
        thread->call(thread, false);
        set_inside(thread, true);
    }
    pthread_mutex_unlock(&gate->lock);
    return !ending;
}

void gate_leave(struct gate_thread *thread)
{
    struct gate *gate = thread->gate;

    pthread_mutex_lock(&gate->lock);
    while (!list_is_empty(&thread->works))
        if (!run_work(thread))
            wait_outside(gate, thread);
    set_inside(thread, false);
    thread->running = false;
    thread->expected = false;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* ---- others ---------------------------------------------------------------------------------- */

void gate_end(struct gate_thread *thread)
{
    pthread_mutex_lock(&thread->gate->lock);
    thread->ending = true;
    call_out(thread);
    pthread_cond_broadcast(&thread->gate->changed);
    pthread_mutex_unlock(&thread->gate->lock);
}

static void add_hold(struct gate *gate)
{
    gate->nholds++;
    call_all_out(gate);
    if (gate->ninside == 0 && gate->cleared)
        gate->cleared(gate);
}

static void drop_hold(struct gate *gate)
{
    gate->nholds--;
    pthread_cond_broadcast(&gate->changed);
}

void gate_hold(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    add_hold(gate);
    pthread_mutex_unlock(&gate->lock);
}

void gate_release(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    assert(gate->nholds > 0);
    drop_hold(gate);
    pthread_mutex_unlock(&gate->lock);
}

void gate_keep(struct gate_thread *thread, bool keep)
{
    pthread_mutex_lock(&thread->gate->lock);
    thread->kept = keep;
    if (keep)
        call_out(thread);
    pthread_cond_broadcast(&thread->gate->changed);
    pthread_mutex_unlock(&thread->gate->lock);
}

void gate_wait_clear(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    assert(!self(gate));
    while (gate->ninside > 0)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

bool gate_is_clear(struct gate *gate)
{
    bool clear;

    pthread_mutex_lock(&gate->lock);
    clear = gate->ninside == 0;
    pthread_mutex_unlock(&gate->lock);
    return clear;
}

void gate_begin_exclusive(struct gate *gate)
{
    struct gate_thread *thread;

    pthread_mutex_lock(&gate->lock);
    if (is_owner(gate)) {
        gate->depth++;
        pthread_mutex_unlock(&gate->lock);
        return;
    }
    thread = self(gate);
    while (gate->depth > 0)
        wait_outside(gate, thread);
    if (thread)
        set_inside(thread, false);
    gate->owner = pthread_self();
    gate->depth = 1;
    add_hold(gate);
    while (gate->ninside > 0)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

void gate_end_exclusive(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    assert(is_owner(gate));
    gate->depth--;
    if (gate->depth == 0) {
        drop_hold(gate);
        go_on(gate, self(gate));
    }
    pthread_mutex_unlock(&gate->lock);
}

/* False: it does not run. */
static bool queue_work(struct gate_thread *thread, struct gate_work *work)
{
    struct gate *gate = thread->gate;

    if (!thread->expected)
        return false;
    if (work->queued)
        return true;
    work->queued = true;
    work->by_owner = is_owner(gate);
    list_add_tail(&thread->works, &work->link);
    call_out(thread);
    pthread_cond_broadcast(&gate->changed);
    return true;
}

bool gate_post(struct gate_thread *thread, struct gate_work *work)
{
    bool queued;

    pthread_mutex_lock(&thread->gate->lock);
    queued = queue_work(thread, work);
    pthread_mutex_unlock(&thread->gate->lock);
    return queued;
}
