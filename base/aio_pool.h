/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine that hands its work to threads; private to aio*.c.
 */
#ifndef MINIVMM_BASE_AIO_POOL_H
#define MINIVMM_BASE_AIO_POOL_H

#include "base/aio_engine.h"
#include "base/compiler.h"
#include "base/list.h"
#include "base/loop.h"

/* What a pool of threads does with its items, each a list member of something larger. */
struct aio_pool_ops {
    const char *name;                   /* of the threads */
    void (*execute)(struct list *item); /* on any thread */
    void (*finish)(struct list *item);  /* on the loop's */
};

/*
 * A pool of at most `max` threads, started when there is work and ended when there is none. 0 or
 * -errno.
 */
int aio_pool_new(struct loop *loop, const struct aio_pool_ops *ops, unsigned max,
                 struct aio_engine **ret_engine) MUST_CHECK;

/* At once; the engine's own `submit` waits until it is polled. */
void aio_pool_queue(struct aio_engine *engine, struct list *item);

#endif
