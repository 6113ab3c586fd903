/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct start {
    void *(*fn)(void *arg);
    void *arg;
};

void thread_use_signal_stack(void *stack)
{
    const stack_t mine = {.ss_sp = stack, .ss_size = THREAD_SIGNAL_STACK_SIZE};

    /* Without it, a thread works as well, until its own stack overflows. */
    (void)sigaltstack(&mine, NULL);
}

static void *run(void *opaque)
{
    struct start start = *(struct start *)opaque;
    /* Not on the thread's own stack, whose pages are touched one by one when a frame is large. */
    void *stack = mmap(NULL, THREAD_SIGNAL_STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    stack_t former = {.ss_flags = SS_DISABLE};
    void *result;

    free(opaque);
    (void)sigaltstack(NULL, &former);
    if (stack != MAP_FAILED)
        thread_use_signal_stack(stack);
    result = start.fn(start.arg);
    /* AddressSanitizer frees the stack that it finds at the end, which should be its own. */
    (void)sigaltstack(&former, NULL);
    if (stack != MAP_FAILED)
        (void)munmap(stack, THREAD_SIGNAL_STACK_SIZE); /* cannot fail for a mapping of our own */
    return result;
}

/* 0 or a positive errno, as pthread_create. */
static int create(pthread_t *ret_thread, struct start *start)
{
    pthread_attr_t attr;
    int r;

    r = pthread_attr_init(&attr);
    if (r != 0)
        return r;
    r = pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
    if (r == 0)
        r = pthread_create(ret_thread, &attr, run, start);
    pthread_attr_destroy(&attr);
    return r;
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg), void *arg)
{
    char comm[THREAD_NAME_MAX + 1];
    struct start *start = malloc(sizeof(*start));
    pthread_t thread;
    int r;

    if (!start)
        return -ENOMEM;
    *start = (struct start){.fn = fn, .arg = arg};
    r = create(&thread, start);
    if (r != 0) {
        free(start);
        return -r;
    }

    strncpy(comm, name, THREAD_NAME_MAX);
    comm[THREAD_NAME_MAX] = '\0';
    /* A thread without its name works as well. */
    (void)pthread_setname_np(thread, comm);
    *ret_thread = thread;
    return 0;
}
