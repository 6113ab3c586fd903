/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast requests on an image are: the same ones that `qemu-img bench` makes.
 */
#ifndef MINIVMM_IMG_BENCH_H
#define MINIVMM_IMG_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

struct bench_options {
    struct block *block; /* not attached; its disk is not empty */
    uint64_t count;      /* requests */
    unsigned depth;      /* of them in flight; > 0 */
    uint64_t size;       /* bytes of each: sectors, and at most the disk */
    uint64_t step;       /* bytes from one to the next: sectors */
    uint64_t off;        /* of the first: sectors, inside the disk */
    uint64_t seed;       /* offsets in random order, multiples of `step`; 0: one after the other */
    uint64_t flush_interval; /* flush after so many writes, with nothing else in flight; 0: never */
    bool no_drain;           /* flush while writes go on */
    bool write;
    uint8_t pattern; /* to be written */
};

struct bench_result {
    double seconds;
    double cpu_seconds;
    struct block_stats stats; /* what the engine did, opening the image included */
};

/* 0, or a negative errno with *err filled: it is that of the last request that failed. */
int bench_run(const struct bench_options *options, struct bench_result *ret_result,
              struct err *err) MUST_CHECK;

#endif
