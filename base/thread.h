/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads with a name, a small stack, and a second one for signals.
 */
#ifndef MINIVMM_BASE_THREAD_H
#define MINIVMM_BASE_THREAD_H

#include <pthread.h>

#include "base/compiler.h"

/*
 * Address space, not memory: only pages that were used count. The deepest user is a log line
 * (buffers of 1 and 2 KiB, stdio's own needs of a few KiB); sanitizers multiply that.
 */
#define THREAD_STACK_SIZE (256u << 10)

/* Longest name that Linux keeps (TASK_COMM_LEN - 1); a longer one is cut off. */
#define THREAD_NAME_MAX 15

/*
 * Where handlers with SA_ONSTACK run: those for a stack without room left cannot run on it. What
 * the kernel puts there is 3 KiB with AVX-512 and 11 KiB with AMX.
 */
#define THREAD_SIGNAL_STACK_SIZE (32u << 10)

/*
 * Give such a stack to the calling thread, as thread_start does for the threads that it makes.
 * Returns it, for munmap at the thread's end; NULL: there is no memory for one, and the thread
 * works as well, until its own stack overflows.
 */
void *thread_use_signal_stack(void);

/*
 * What deep calls of the calling thread left on its stack goes back to the host: for a thread that
 * has no work for a while. The thread was made by thread_start, or is the main one.
 */
void thread_trim_stack(void) __attribute__((noinline));

/*
 * What names of threads begin with from now on, followed by a colon, as far as there is room before
 * the name itself. Before threads are started; kept. NULL: nothing.
 */
void thread_set_prefix(const char *prefix);

/* Start `fn(arg)` on a joinable thread called `name`. 0 or -errno. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg),
                 void *arg) MUST_CHECK;

#endif
