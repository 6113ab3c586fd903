/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest did with a disk, counted: requests, bytes and times, as the guest sees them.
 *
 * One thread, the disk's.
 */
#ifndef MINIVMM_BLOCK_ACCOUNT_H
#define MINIVMM_BLOCK_ACCOUNT_H

#include <stdint.h>

#include "block/block.h"

/* Kinds of requests; discards and writes of zeroes are one. */
enum account_kind { ACCOUNT_READ, ACCOUNT_WRITE, ACCOUNT_FLUSH, ACCOUNT_UNMAP, ACCOUNT_KINDS };

struct account_counters {
    uint64_t done;
    uint64_t bytes; /* of those that are done */
    uint64_t failed;
    uint64_t refused;  /* they made no sense */
    uint64_t total_ns; /* from their arrival to the answer, of those that are done or failed */
};

struct account {
    struct account_counters kinds[ACCOUNT_KINDS];
    uint64_t highest; /* the end of what was written farthest behind */
    uint64_t last_ns; /* the last answer; 0: none yet */
    uint64_t kicks;   /* the guest told of requests */
    uint64_t interrupts;
};

/* A request that came at `start_ns` is answered now. */
void account_done(struct account *account, const struct block_req *req, uint64_t start_ns,
                  int result);

/* One was answered with an error, and not carried out. */
void account_refused(struct account *account, enum block_op op);

#endif
