/*
 * Threads with a name and a small stack.
 */
#ifndef MINIVMM_BASE_THREAD_H
#define MINIVMM_BASE_THREAD_H

#include <pthread.h>

#include "vmm/base/compiler.h"

/*
 * Address space, not memory: only pages that were used count. The deepest user is a log line
 * (two buffers of 1 KiB and stdio's own needs of a few KiB); sanitizers multiply that.
 */
#define THREAD_STACK_SIZE (256u << 10)

/* Longest name that Linux keeps (TASK_COMM_LEN - 1); a longer one is cut off. */
#define THREAD_NAME_MAX 15

/* Start `fn(arg)` on a joinable thread called `name`. 0 or -errno. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg),
                 void *arg) MUST_CHECK;

#endif
