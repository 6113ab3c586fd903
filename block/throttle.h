/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast requests may enter a disk: limits on bytes and operations per second, with bursts, and
 * the requests that wait for their turn. What the numbers mean is what they mean to QEMU.
 *
 * Nothing here knows the time or waits: the caller says what time it is, and is told how long the
 * next request has to wait. One thread.
 *
 * A limit is a leaky bucket (base/bucket.h) that leaks at the rate `avg`. Without `max` it holds a
 * tenth of a second. With `max` it holds what `max_length` seconds at the rate `max` bring: so much
 * may come at once, after a time of quiet. If max_length is above 1, a second bucket sees to it
 * that a burst is no faster than `max`.
 *
 * Reads, and everything else, wait in a queue each. They take turns where both may go.
 */
#ifndef MINIVMM_BLOCK_THROTTLE_H
#define MINIVMM_BLOCK_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bucket.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/list.h"

struct block_req;

/* BPS: bytes per second; IOPS: operations per second; of reads and writes together, or of each. */
enum throttle_kind {
    THROTTLE_BPS,
    THROTTLE_BPS_RD,
    THROTTLE_BPS_WR,
    THROTTLE_IOPS,
    THROTTLE_IOPS_RD,
    THROTTLE_IOPS_WR,
    THROTTLE_KINDS,
};

/* What users call them: "bps_rd". */
extern const char *const throttle_kind_names[THROTTLE_KINDS];

#define THROTTLE_VALUE_MAX 1000000000000000ull

struct throttle_limit {
    uint64_t avg;        /* per second; 0: no limit */
    uint64_t max;        /* per second, in a burst; 0: no bursts */
    uint64_t max_length; /* of a burst, in seconds; at least 1 */
};

struct throttle_limits {
    struct throttle_limit kinds[THROTTLE_KINDS];
    uint64_t iops_size; /* so many bytes count as one operation; 0: each request is one */
};

/* No limits. */
void throttle_limits_init(struct throttle_limits *limits);

/* Do the limits make sense together? 0, or -EINVAL with *err filled in QEMU's words. */
int throttle_limits_check(const struct throttle_limits *limits, struct err *err) MUST_CHECK;

bool throttle_limits_any(const struct throttle_limits *limits);

struct throttle_buckets {
    struct bucket avg;
    struct bucket burst;
};

struct throttle {
    struct throttle_limits limits;
    bool on; /* there are limits */
    struct throttle_buckets buckets[THROTTLE_KINDS];
    uint64_t leaked_ns;     /* when the buckets leaked last */
    struct list waiting[2]; /* reads; the rest */
    unsigned turn;          /* whose turn it is */
};

void throttle_init(struct throttle *throttle);

/* Other limits, which hold for those that wait, too. The buckets are empty then. */
void throttle_set(struct throttle *throttle, const struct throttle_limits *limits, uint64_t now_ns);

/* A request waits from now on: not a flush. */
void throttle_add(struct throttle *throttle, struct block_req *req);

/*
 * The next request that may go, taken from its queue; NULL: none. Then *ret_wait_ns says how long
 * until one may, if nothing changes: UINT64_MAX if none waits.
 */
struct block_req *throttle_next(struct throttle *throttle, uint64_t now_ns, uint64_t *ret_wait_ns);

/* The same, whatever the limits say. It counts all the same: those that come later wait for it. */
struct block_req *throttle_take(struct throttle *throttle);

/* Move all that wait and are meant to the end of a list. They do not count. */
void throttle_withdraw(struct throttle *throttle,
                       bool (*is_meant)(const struct block_req *req, const void *opaque),
                       const void *opaque, struct list *withdrawn);

#endif
