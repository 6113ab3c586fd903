/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk in memory that implements block/block.h, for tests of its users: it holds requests back,
 * completes them in an odd order, and fails on demand.
 *
 * A program has this or libblock, never both. It is not in the tests' library; the Makefile says
 * whose it is. The functions of block.h then come from here, and the linker leaves libblock out.
 */
#ifndef MINIVMM_TESTS_FAKE_BLOCK_H
#define MINIVMM_TESTS_FAKE_BLOCK_H

#include "block/block.h"

struct block {
    struct block_info info;
    uint8_t *data;
    struct loop *loop;
    struct loop_work work; /* completes what is pending */

    /* Owner: the loop's thread; tests look at them while it is idle. */
    struct list pending;
    unsigned in_flight;
    unsigned nsubmitted;
    unsigned nflushes;
    struct block_req last; /* copy of the last request submitted */
    bool writeback;
    bool cancelled;

    /* Set by the test, on the loop's thread or before it runs. */
    bool hold;   /* keep requests pending until fake_block_release */
    bool newest; /* complete the newest first */
    int fail;    /* -errno for every request, if negative */
};

/* A disk of `len` bytes, all zero, in memory; change `info` and the switches before it is used. */
struct block *fake_block_new(struct loop *loop, uint64_t len);
void fake_block_free(struct block *block);

/* On the loop's thread: let go of what was held. */
void fake_block_release(void *opaque);

#endif
