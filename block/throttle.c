/* SPDX-License-Identifier: Apache-2.0 */
#include "block/throttle.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "block/block.h"

/* A bucket without bursts holds what comes in this part of a second. */
#define PARTS_OF_SECOND 10

enum { READS, WRITES };

const char *const throttle_kind_names[THROTTLE_KINDS] = {
    [THROTTLE_BPS] = "bps",   [THROTTLE_BPS_RD] = "bps_rd",   [THROTTLE_BPS_WR] = "bps_wr",
    [THROTTLE_IOPS] = "iops", [THROTTLE_IOPS_RD] = "iops_rd", [THROTTLE_IOPS_WR] = "iops_wr",
};

static bool is_bytes(enum throttle_kind kind)
{
    return kind <= THROTTLE_BPS_WR;
}

/* ---- limits ---------------------------------------------------------------------------------- */

void throttle_limits_init(struct throttle_limits *limits)
{
    *limits = (struct throttle_limits){0};
    for (int i = 0; i < THROTTLE_KINDS; i++)
        limits->kinds[i].max_length = 1;
}

bool throttle_limits_any(const struct throttle_limits *limits)
{
    for (int i = 0; i < THROTTLE_KINDS; i++)
        if (limits->kinds[i].avg > 0)
            return true;
    return false;
}

static int check_limit(const struct throttle_limit *limit, struct err *err)
{
    if (limit->avg > THROTTLE_VALUE_MAX || limit->max > THROTTLE_VALUE_MAX)
        return err_set(err, -EINVAL, "bps/iops/max values must be within [0, %llu]",
                       THROTTLE_VALUE_MAX);
    if (limit->max_length == 0)
        return err_set(err, -EINVAL, "the burst length cannot be 0");
    if (limit->max_length > 1 && limit->max == 0)
        return err_set(err, -EINVAL, "burst length set without burst rate");
    if (limit->max > 0 && limit->max_length > THROTTLE_VALUE_MAX / limit->max)
        return err_set(err, -EINVAL, "burst length too high for this burst rate");
    if (limit->max > 0 && limit->avg == 0)
        return err_set(err, -EINVAL, "bps_max/iops_max require corresponding bps/iops values");
    if (limit->max > 0 && limit->max < limit->avg)
        return err_set(err, -EINVAL, "bps_max/iops_max cannot be lower than bps/iops");
    return 0;
}

/* The total limit of bytes or operations is `kinds[0]`, those of reads and writes follow it. */
static bool limits_twice(const struct throttle_limit kinds[3])
{
    return (kinds[0].avg > 0 && (kinds[1].avg > 0 || kinds[2].avg > 0)) ||
           (kinds[0].max > 0 && (kinds[1].max > 0 || kinds[2].max > 0));
}

int throttle_limits_check(const struct throttle_limits *limits, struct err *err)
{
    const struct throttle_limit *iops = &limits->kinds[THROTTLE_IOPS];

    if (limits_twice(&limits->kinds[THROTTLE_BPS]) || limits_twice(iops))
        return err_set(err, -EINVAL,
                       "bps/iops/max total values and read/write values cannot be used at the "
                       "same time");
    if (limits->iops_size > THROTTLE_VALUE_MAX)
        return err_set(err, -EINVAL, "iops size must be within [0, %llu]", THROTTLE_VALUE_MAX);
    if (limits->iops_size > 0 && iops[0].avg == 0 && iops[1].avg == 0 && iops[2].avg == 0)
        return err_set(err, -EINVAL, "iops size requires an iops value to be set");
    for (int i = 0; i < THROTTLE_KINDS; i++) {
        int r = check_limit(&limits->kinds[i], err);

        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- buckets --------------------------------------------------------------------------------- */

static void leak(struct throttle *throttle, uint64_t now_ns)
{
    double seconds = (double)(now_ns - throttle->leaked_ns) / (double)NS_PER_S;

    if (now_ns <= throttle->leaked_ns)
        return;
    throttle->leaked_ns = now_ns;
    for (int i = 0; i < THROTTLE_KINDS; i++) {
        const struct throttle_limit *limit = &throttle->limits.kinds[i];

        bucket_leak(&throttle->buckets[i].avg, (double)limit->avg, seconds);
        bucket_leak(&throttle->buckets[i].burst, (double)limit->max, seconds);
    }
}

static uint64_t limit_wait_ns(const struct throttle_limit *limit,
                              const struct throttle_buckets *buckets)
{
    double avg = (double)limit->avg;
    double max = (double)limit->max;
    double size = limit->max > 0 ? max * (double)limit->max_length : avg / PARTS_OF_SECOND;
    uint64_t wait_ns;

    if (limit->avg == 0)
        return 0;
    wait_ns = bucket_wait_ns(&buckets->avg, avg, size);
    if (limit->max_length > 1)
        wait_ns = max_u64(wait_ns, bucket_wait_ns(&buckets->burst, max, max / PARTS_OF_SECOND));
    return wait_ns;
}

/* Do requests of a direction fill the bucket? */
static bool concerns(enum throttle_kind kind, unsigned direction)
{
    switch (kind) {
    case THROTTLE_BPS_RD:
    case THROTTLE_IOPS_RD:
        return direction == READS;
    case THROTTLE_BPS_WR:
    case THROTTLE_IOPS_WR:
        return direction == WRITES;
    default:
        return true;
    }
}

static uint64_t direction_wait_ns(const struct throttle *throttle, unsigned direction)
{
    uint64_t wait_ns = 0;

    for (int i = 0; i < THROTTLE_KINDS; i++)
        if (concerns(i, direction))
            wait_ns =
                max_u64(wait_ns, limit_wait_ns(&throttle->limits.kinds[i], &throttle->buckets[i]));
    return wait_ns;
}

/* Zeroes cost the host as much as what they stand for, if it has to write them. */
static double bytes_of(const struct block_req *req)
{
    return req->op == BLOCK_DISCARD ? 0 : (double)req->len;
}

static void count(struct throttle *throttle, const struct block_req *req, unsigned direction)
{
    double bytes = bytes_of(req);
    double iops_size = (double)throttle->limits.iops_size;
    double operations = iops_size > 0 && bytes > iops_size ? bytes / iops_size : 1;

    for (int i = 0; i < THROTTLE_KINDS; i++) {
        double units = is_bytes(i) ? bytes : operations;

        if (!concerns(i, direction))
            continue;
        bucket_fill(&throttle->buckets[i].avg, units);
        bucket_fill(&throttle->buckets[i].burst, units);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

void throttle_init(struct throttle *throttle)
{
    *throttle = (struct throttle){0};
    throttle_limits_init(&throttle->limits);
    list_init(&throttle->waiting[READS]);
    list_init(&throttle->waiting[WRITES]);
}

void throttle_set(struct throttle *throttle, const struct throttle_limits *limits, uint64_t now_ns)
{
    throttle->limits = *limits;
    throttle->on = throttle_limits_any(limits);
    throttle->leaked_ns = now_ns;
    for (int i = 0; i < THROTTLE_KINDS; i++)
        throttle->buckets[i] = (struct throttle_buckets){0};
}

void throttle_add(struct throttle *throttle, struct block_req *req)
{
    list_add_tail(&throttle->waiting[req->op == BLOCK_READ ? READS : WRITES], &req->link);
}

/* Whose turn it is next is the other's, so that neither starves. */
static struct block_req *take_from(struct throttle *throttle, unsigned direction)
{
    struct list *first = list_first(&throttle->waiting[direction]);
    struct block_req *req;

    if (!first)
        return NULL;
    list_remove(first);
    throttle->turn = !direction;
    req = container_of(first, struct block_req, link);
    count(throttle, req, direction);
    return req;
}

struct block_req *throttle_next(struct throttle *throttle, uint64_t now_ns, uint64_t *ret_wait_ns)
{
    *ret_wait_ns = UINT64_MAX;
    leak(throttle, now_ns);
    for (unsigned i = 0; i < 2; i++) {
        unsigned direction = throttle->turn ^ i;
        uint64_t wait_ns;

        if (list_is_empty(&throttle->waiting[direction]))
            continue;
        wait_ns = direction_wait_ns(throttle, direction);
        if (wait_ns == 0)
            return take_from(throttle, direction);
        *ret_wait_ns = min_u64(*ret_wait_ns, wait_ns);
    }
    return NULL;
}

struct block_req *throttle_take(struct throttle *throttle)
{
    struct block_req *req = take_from(throttle, throttle->turn);

    return req ? req : take_from(throttle, !throttle->turn);
}

void throttle_withdraw(struct throttle *throttle,
                       bool (*is_meant)(const struct block_req *req, const void *opaque),
                       const void *opaque, struct list *withdrawn)
{
    for (unsigned i = 0; i < 2; i++) {
        struct list *link = throttle->waiting[i].next;

        while (link != &throttle->waiting[i]) {
            struct list *next = link->next;

            if (is_meant(container_of(link, struct block_req, link), opaque)) {
                list_remove(link);
                list_add_tail(withdrawn, link);
            }
            link = next;
        }
    }
}
