/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop_thread.h"

#include <assert.h>

#include "base/thread.h"

static void *run(void *loop)
{
    int r = loop_run(loop);

    /* epoll_wait does not fail on a descriptor and a buffer that are ours. */
    assert(r == 0);
    (void)r;
    return NULL;
}

int loop_thread_start(struct loop_thread *thread, const char *name, struct err *err)
{
    int r = loop_new(&thread->loop);

    if (r < 0)
        return err_set_errno(err, r, "cannot make an event loop");
    r = thread_start(&thread->thread, name, run, thread->loop);
    if (r < 0) {
        err_set_errno(err, r, "cannot start the thread %s", name);
        loop_free(thread->loop);
    }
    return r;
}

void loop_thread_stop(struct loop_thread *thread)
{
    loop_stop(thread->loop);
    pthread_join(thread->thread, NULL);
}

void loop_thread_free(struct loop_thread *thread)
{
    loop_free(thread->loop);
}
