/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous file I/O on an event loop, and the coroutines that wait for it.
 *
 * There is one struct aio per loop, shared by all images attached to it. Just before the loop
 * sleeps it runs the coroutines that are ready, hands everything they asked of the host to the
 * kernel in one call, and takes what is finished; so whatever arrived in one round of the loop is
 * one batch. io_uring does the work, or a few threads where it is missing or forbidden. Threads
 * and stacks are made by the first operation that needs them.
 *
 * All calls on the loop's thread.
 */
#ifndef MINIVMM_BASE_AIO_H
#define MINIVMM_BASE_AIO_H

#include <stdbool.h>

#include "base/co.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "base/loop.h"

struct aio;

enum aio_kind { AIO_AUTO, AIO_URING, AIO_THREADS };

/*
 * Take a reference to the loop's struct aio, making it if it is the first, and get ready for
 * operations of this kind. 0, or -errno with *err filled.
 */
int aio_get(struct loop *loop, enum aio_kind kind, struct aio **ret_aio,
            struct err *err) MUST_CHECK;

/* Give a reference back; nothing that was submitted with it is in flight. NULL is fine. */
void aio_put(struct aio *aio);

struct co_sched *aio_sched(struct aio *aio);

/* Carry out `io` on io->fd and call io->done later. `kind` is one that aio_get was called with. */
void aio_submit(struct aio *aio, enum aio_kind kind, struct file_io *io);

/* Something to be run soon: after the coroutines that are ready, before the loop sleeps. */
struct aio_task {
    void (*run)(struct aio_task *task);
    struct list link;
    bool queued;
};

void aio_defer(struct aio *aio, struct aio_task *task);

/*
 * One step without the loop: run what is ready; if nothing was, sleep until an operation is done.
 * For a caller on the loop's thread that must wait for requests. Outside coroutines.
 */
void aio_wait(struct aio *aio);

/*
 * Let so much time pass: the coroutine that calls this waits, others go on. Without `aio` or
 * outside of coroutines the thread sleeps.
 */
void aio_sleep(struct aio *aio, unsigned ms);

/*
 * Let a thread beside the loop's do what keeps a processor busy for long: fn(opaque) runs on one of
 * as many threads as there are processors, while the coroutine that calls this waits. Outside of
 * coroutines, and where no thread can be started, it runs here and now.
 */
void aio_compute(struct aio *aio, void (*fn)(void *opaque), void *opaque);

/* Processors that this process may use. */
unsigned aio_processors(void);

#endif
