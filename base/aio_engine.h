/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which struct aio gets its work done; private to aio*.c. The engine of file operations
 * that aio_NAME_new makes is in aio_NAME.c.
 */
#ifndef MINIVMM_BASE_AIO_ENGINE_H
#define MINIVMM_BASE_AIO_ENGINE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/file.h"
#include "base/loop.h"

struct aio_engine;

struct aio_engine_ops {
    void (*submit)(struct aio_engine *engine, struct file_io *io);

    /*
     * Start what was submitted and call `done` of what is finished; with `wait`, sleep until
     * something is. Returns whether anything was finished.
     */
    bool (*poll)(struct aio_engine *engine, bool wait);

    /* Nothing is in flight. */
    void (*free)(struct aio_engine *engine);
};

struct aio_engine {
    const struct aio_engine_ops *ops;
    unsigned in_flight; /* submitted, `done` not yet called */
};

/* 0 or -errno. The loop wakes up when there are completions to poll for. */
int aio_uring_new(struct loop *loop, struct aio_engine **ret_engine) MUST_CHECK;
int aio_threads_new(struct loop *loop, struct aio_engine **ret_engine) MUST_CHECK;

#endif
