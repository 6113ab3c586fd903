/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests are linked with --wrap=pthread_create: which of them use threads is known, and those
 * that do not need not run under ThreadSanitizer.
 */
#include <pthread.h>

#include "tests/lib/unit.h"

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg);

bool unit_uses_threads __attribute__((weak));

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                          void *arg)
{
    if (unit_uses_threads)
        return __real_pthread_create(thread, attr, start, arg);
    fprintf(stderr, "a thread in a test program without UNIT_USES_THREADS, see tests/lib/unit.h\n");
    abort();
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
