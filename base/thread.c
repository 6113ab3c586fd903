/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define PAGE_SIZE 4096u

/*
 * How far below its caller thread_trim_stack looks: no call goes deeper, and no stack ends there.
 */
#define TRIM_DEPTH (128u << 10)

/* What thread_trim_stack and madvise themselves need. */
#define TRIM_OWN_FRAMES 128u

_Static_assert(TRIM_DEPTH <= THREAD_STACK_SIZE / 2, "a thread's outermost calls are above");

static const char *prefix; /* of names */

/* On the heap while the thread runs: what it needs of its stack should fit into one page. */
struct start {
    void *(*fn)(void *arg);
    void *arg;
    void *signal_stack;
    stack_t former;
};

/* Not on the thread's own stack, whose pages are touched one by one when a frame is large. */
void *thread_use_signal_stack(void)
{
    stack_t mine = {.ss_size = THREAD_SIGNAL_STACK_SIZE};

    mine.ss_sp = mmap(NULL, THREAD_SIGNAL_STACK_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mine.ss_sp == MAP_FAILED)
        return NULL;
    (void)sigaltstack(&mine, NULL); /* of a stack that is large enough: cannot fail */
    return mine.ss_sp;
}

void thread_trim_stack(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t end = align_down(here - TRIM_OWN_FRAMES, PAGE_SIZE);

    /* Pages of the main thread's stack that were never used are not mapped: ENOMEM. */
    (void)madvise((void *)(end - TRIM_DEPTH), TRIM_DEPTH, MADV_DONTNEED);
}

static void *run(void *opaque)
{
    struct start *start = opaque;
    void *result;

    (void)sigaltstack(NULL, &start->former);
    start->signal_stack = thread_use_signal_stack();
    /* The stack may be that of a thread that has ended. */
    thread_trim_stack();
    result = start->fn(start->arg);
    /* AddressSanitizer frees the stack that it finds at the end, which should be its own. */
    (void)sigaltstack(&start->former, NULL);
    if (start->signal_stack)
        (void)munmap(start->signal_stack, THREAD_SIGNAL_STACK_SIZE); /* our own: cannot fail */
    free(start);
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

void thread_set_prefix(const char *new_prefix)
{
    prefix = new_prefix;
}

static void set_name(pthread_t thread, const char *name)
{
    char comm[THREAD_NAME_MAX + 1];
    size_t len = strlen(name);

    if (prefix && len + 1 < THREAD_NAME_MAX)
        (void)snprintf(comm, sizeof(comm), "%.*s:%s", (int)(THREAD_NAME_MAX - 1 - len), prefix,
                       name);
    else
        (void)snprintf(comm, sizeof(comm), "%s", name); /* cut off where too long */
    (void)pthread_setname_np(thread, comm); /* a thread without its name works as well */
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg), void *arg)
{
    struct start *start = malloc(sizeof(*start));
    pthread_t thread;
    int r;

    if (!start)
        return -ENOMEM;
    *start = (struct start){.fn = fn, .arg = arg, .former.ss_flags = SS_DISABLE};
    r = create(&thread, start);
    if (r != 0) {
        free(start);
        return -r;
    }

    set_name(thread, name);
    *ret_thread = thread;
    return 0;
}
