/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long operation on an image in use: how far it is, how fast it may be, and whether it is wanted.
 *
 * The fields are atomic: the operation's thread and others look at them and set them.
 */
#ifndef MINIVMM_BLOCK_JOB_H
#define MINIVMM_BLOCK_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "block/block.h"

struct block_job {
    uint64_t len;    /* of the work, in bytes */
    uint64_t offset; /* what is done of it */
    uint64_t speed;  /* bytes per second at most; 0: no limit */
    bool paused;
    bool cancelled;

    /* Owner: the operation. */
    double debt;      /* bytes that were moved before their time; below 0: that may be */
    uint64_t debt_ns; /* when it was reckoned */
};

static inline uint64_t block_job_get(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void block_job_set(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static inline bool block_job_is(const bool *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void block_job_let(bool *field, bool value)
{
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

/*
 * In an operation, between two pieces: `offset` is reached, and the last piece moved `moved` bytes,
 * 0 if it only looked. Waits for as long as the speed asks for, or while paused. 0, or -ECANCELED.
 */
int block_job_step(struct block_job *job, struct block *block, uint64_t offset,
                   uint64_t moved) MUST_CHECK;

#endif
