/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop with a thread of its own.
 */
#ifndef MINIVMM_BASE_LOOP_THREAD_H
#define MINIVMM_BASE_LOOP_THREAD_H

#include <pthread.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"

struct loop_thread {
    struct loop *loop;
    pthread_t thread;
};

/* `name` is the thread's. 0, or a negative errno with *err filled and nothing left behind. */
int loop_thread_start(struct loop_thread *thread, const char *name, struct err *err) MUST_CHECK;

/* End the thread; the loop stays, for whoever takes what he watched from it. */
void loop_thread_stop(struct loop_thread *thread);

/* After loop_thread_stop. */
void loop_thread_free(struct loop_thread *thread);

#endif
