#include "vmm/base/thread.h"

#include <string.h>

int thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *arg), void *arg)
{
    char comm[THREAD_NAME_MAX + 1];
    pthread_attr_t attr;
    pthread_t thread;
    int r;

    r = pthread_attr_init(&attr);
    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
    if (r == 0)
        r = pthread_create(&thread, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    if (r != 0)
        return -r;

    strncpy(comm, name, THREAD_NAME_MAX);
    comm[THREAD_NAME_MAX] = '\0';
    /* A thread without its name works as well. */
    (void)pthread_setname_np(thread, comm);
    *ret_thread = thread;
    return 0;
}
