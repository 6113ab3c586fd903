/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several coroutines that work on open images together, on an event loop of their own. Each of them
 * is a worker with requests in flight; what they share needs no locks, as they take turns on one
 * thread.
 */
#ifndef MINIVMM_IMG_CREW_H
#define MINIVMM_IMG_CREW_H

#include <stdint.h>

#include "base/aio.h"
#include "base/co.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "block/block.h"

/* Requests that a worker may have in flight; one more waits for all of them. */
#define CREW_IOS 16u

#define CREW_MAX 128u

struct crew_worker;

struct crew {
    struct loop *loop;
    struct aio *aio;
    void (*work)(struct crew_worker *worker);
    void *opaque; /* for `work` */
    unsigned live;
};

struct crew_io {
    struct block_req req;
    struct iovec iov;
    struct crew_worker *worker;
};

struct crew_worker {
    struct crew *crew;
    struct crew_io ios[CREW_IOS];
    unsigned nios;
    unsigned in_flight;
    struct co *waiter;
    int result;
};

/* As many workers as keep disks and processors busy. */
unsigned crew_size(void);

/*
 * Attach the images, run work(worker) in `n` coroutines until all have returned, and detach them.
 * 0, or a negative errno with *err filled: nothing could be done, or what was written last could
 * not be written back. That `work` has failed is between it and the caller.
 */
int crew_run(struct block *const *blocks, unsigned nblocks, unsigned n,
             void (*work)(struct crew_worker *worker), void *opaque, struct err *err) MUST_CHECK;

/* Begin a request with one buffer, or none. Its `done` and vector are set here. */
void crew_submit(struct crew_worker *worker, struct block *block, const struct block_req *req,
                 void *buf);

/* Wait for all requests of this worker. 0, or what the first that failed returned. */
int crew_wait(struct crew_worker *worker) MUST_CHECK;

/* Read, and wait for it. */
int crew_read(struct crew_worker *worker, struct block *block, uint64_t off, uint64_t len,
              void *buf) MUST_CHECK;

/* Do nothing for a while. */
void crew_sleep(struct crew_worker *worker, uint64_t ns);

/*
 * Workers get ready side by side for something that is to begin in the order in which they took
 * their turns: writes, for the sake of an image that will be read from front to back. Each turn
 * that was taken is passed once.
 */
struct crew_turns {
    uint64_t taken;
    uint64_t passed;
    struct co_queue waiting;
};

void crew_turns_init(struct crew_turns *turns);
uint64_t crew_turn_take(struct crew_turns *turns);
void crew_turn_wait(struct crew_turns *turns, uint64_t turn);
void crew_turn_pass(struct crew_turns *turns);

#endif
