/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits on requests, with a clock that the tests turn.
 */
#include "block/throttle.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "block/block.h"
#include "tests/lib/unit.h"

#define NREQS 4000u

static struct throttle throttle;
static struct throttle_limits limits;
static struct block_req reqs[NREQS];
static unsigned nreqs;
static uint64_t now_ns;

static void setup(void)
{
    throttle_init(&throttle);
    throttle_limits_init(&limits);
    memset(reqs, 0, sizeof(reqs));
    nreqs = 0;
    now_ns = 5 * NS_PER_S;
}

static void limit(enum throttle_kind kind, uint64_t avg, uint64_t max, uint64_t max_length)
{
    limits.kinds[kind] = (struct throttle_limit){avg, max, max_length};
    throttle_set(&throttle, &limits, now_ns);
}

static void add(enum block_op op, uint64_t len, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ck_assert_uint_lt(nreqs, NREQS);
        reqs[nreqs] = (struct block_req){.op = op, .len = len};
        throttle_add(&throttle, &reqs[nreqs++]);
    }
}

/* What comes through in a time, as a disk would see it. */
struct passed {
    unsigned reads;
    unsigned writes;
    uint64_t bytes;
};

/* Let time pass in the steps that the throttle asks for. */
static struct passed run_for(uint64_t ns)
{
    const uint64_t end = now_ns + ns;
    struct passed passed = {0};
    struct block_req *req;
    uint64_t wait_ns;

    while (now_ns <= end) {
        while ((req = throttle_next(&throttle, now_ns, &wait_ns))) {
            passed.reads += req->op == BLOCK_READ;
            passed.writes += req->op != BLOCK_READ;
            passed.bytes += req->len;
        }
        if (wait_ns > end - now_ns)
            break;
        ck_assert_uint_gt(wait_ns, 0);
        now_ns += wait_ns;
    }
    now_ns = end;
    return passed;
}

static void assert_near(uint64_t got, uint64_t expected, uint64_t by)
{
    ck_assert_uint_ge(got + by, expected);
    ck_assert_uint_le(got, expected + by);
}

/* ---- rates ----------------------------------------------------------------------------------- */

START_TEST(without_limits_all_pass_in_turn_and_nobody_waits)
{
    uint64_t wait_ns;

    ck_assert(!throttle.on);
    add(BLOCK_WRITE, 1u << 30, 10);
    ck_assert_uint_eq(run_for(0).writes, 10);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
    ck_assert_uint_eq(wait_ns, UINT64_MAX);
}
END_TEST

START_TEST(operations_come_at_their_rate)
{
    limit(THROTTLE_IOPS, 100, 0, 1);
    ck_assert(throttle.on);
    add(BLOCK_READ, 4096, 1500);
    assert_near(run_for(10 * NS_PER_S).reads, 1010u, 2u); /* and a tenth of a second at once */
}
END_TEST

START_TEST(bytes_come_at_their_rate_whatever_the_size)
{
    limit(THROTTLE_BPS, 1000000, 0, 1);
    add(BLOCK_WRITE, 4096, 1000);
    add(BLOCK_WRITE, 300000, 40);
    assert_near(run_for(3900 * NS_PER_MS).bytes, 4000000u, 4096u);
    assert_near(run_for(6 * NS_PER_S).bytes, 6000000u, 400000u);
}
END_TEST

START_TEST(a_request_larger_than_the_bucket_passes_and_the_next_waits_for_it)
{
    uint64_t wait_ns;

    limit(THROTTLE_BPS, 1000, 0, 1);
    add(BLOCK_READ, 1000000, 2);
    ck_assert_ptr_eq(throttle_next(&throttle, now_ns, &wait_ns), &reqs[0]);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
    assert_near(wait_ns, 999900000000u, 1000u);
    now_ns += wait_ns;
    ck_assert_ptr_eq(throttle_next(&throttle, now_ns, &wait_ns), &reqs[1]);
}
END_TEST

START_TEST(limits_concern_their_direction_alone)
{
    struct passed passed;

    limit(THROTTLE_IOPS_WR, 10, 0, 1);
    add(BLOCK_READ, 4096, 500);
    add(BLOCK_WRITE, 4096, 500);
    passed = run_for(NS_PER_S);
    ck_assert_uint_eq(passed.reads, 500);
    assert_near(passed.writes, 11u, 1u);
    limit(THROTTLE_IOPS_WR, 0, 0, 1);
    limit(THROTTLE_BPS_RD, 40960, 0, 1);
    add(BLOCK_READ, 4096, 500);
    passed = run_for(NS_PER_S);
    ck_assert_uint_eq(passed.writes, 489);
    assert_near(passed.reads, 11u, 1u);
}
END_TEST

START_TEST(discards_are_operations_without_bytes)
{
    limit(THROTTLE_BPS_WR, 1000, 0, 1);
    add(BLOCK_DISCARD, 1u << 30, 10);
    ck_assert_uint_eq(run_for(0).writes, 10);
    limit(THROTTLE_IOPS_WR, 10, 0, 1);
    add(BLOCK_DISCARD, 1u << 30, 50);
    assert_near(run_for(NS_PER_S).writes, 11u, 1u);
}
END_TEST

START_TEST(zeroes_count_as_the_bytes_that_they_stand_for)
{
    limit(THROTTLE_BPS_WR, 1000000, 0, 1);
    add(BLOCK_WRITE_ZEROES, 100000, 100);
    assert_near(run_for(2 * NS_PER_S).bytes, 2200000u, 100000u);
}
END_TEST

START_TEST(long_requests_count_as_several_operations)
{
    limits.iops_size = 4096;
    limit(THROTTLE_IOPS, 100, 0, 1);
    add(BLOCK_READ, 40960, 400);
    assert_near(run_for(10 * NS_PER_S).reads, 101u, 1u);
    setup();
    limits.iops_size = 4096;
    limit(THROTTLE_IOPS, 100, 0, 1);
    add(BLOCK_READ, 512, 1500); /* a short one is one all the same */
    assert_near(run_for(10 * NS_PER_S).reads, 1010u, 2u);
}
END_TEST

/* ---- bursts ---------------------------------------------------------------------------------- */

START_TEST(a_burst_comes_after_a_time_of_quiet)
{
    limit(THROTTLE_IOPS, 10, 200, 1);
    add(BLOCK_READ, 512, 1000);
    assert_near(run_for(0).reads, 201u, 1u);
    assert_near(run_for(10 * NS_PER_S).reads, 100u, 1u);
    throttle_init(&throttle); /* what still waits is forgotten */
    limit(THROTTLE_IOPS, 10, 200, 1);
    (void)run_for(1000 * NS_PER_S);
    add(BLOCK_READ, 512, 1000);
    assert_near(run_for(0).reads, 201u, 1u); /* quiet for long, and no more than a burst */
}
END_TEST

START_TEST(a_long_burst_is_no_faster_than_its_own_rate)
{
    limit(THROTTLE_IOPS, 10, 100, 5);
    add(BLOCK_READ, 512, 2000);
    assert_near(run_for(0).reads, 11u, 1u);         /* a tenth of a second of the burst */
    assert_near(run_for(NS_PER_S).reads, 100u, 2u); /* then its rate */
    assert_near(run_for(4 * NS_PER_S).reads, 400u,
                45u); /* to its end: 500 in all, and what leaks */
    (void)run_for(2 * NS_PER_S);
    assert_near(run_for(10 * NS_PER_S).reads, 100u, 2u);
}
END_TEST

/* ---- fairness -------------------------------------------------------------------------------- */

START_TEST(reads_and_writes_share_a_common_limit)
{
    struct passed passed;

    limit(THROTTLE_IOPS, 100, 0, 1);
    add(BLOCK_WRITE, 4096, 1500); /* they were first, and many */
    (void)run_for(0);
    add(BLOCK_READ, 4096, 1500);
    passed = run_for(10 * NS_PER_S);
    assert_near(passed.reads, 500u, 2u);
    assert_near(passed.writes, 500u, 2u);
}
END_TEST

START_TEST(who_comes_last_waits_behind_those_who_wait)
{
    uint64_t wait_ns;

    limit(THROTTLE_IOPS, 10, 0, 1);
    add(BLOCK_WRITE, 512, 3);
    (void)throttle_next(&throttle, now_ns, &wait_ns);
    (void)throttle_next(&throttle, now_ns, &wait_ns);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
    now_ns += wait_ns;
    add(BLOCK_WRITE, 512, 1);
    ck_assert_ptr_eq(throttle_next(&throttle, now_ns, &wait_ns), &reqs[2]);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
}
END_TEST

START_TEST(a_direction_that_has_to_wait_longer_does_not_hold_up_the_other)
{
    struct passed passed;

    limit(THROTTLE_BPS_WR, 1000, 0, 1);
    limit(THROTTLE_IOPS, 100, 0, 1);
    add(BLOCK_WRITE, 1000000, 5);
    add(BLOCK_READ, 512, 2000);
    passed = run_for(10 * NS_PER_S);
    ck_assert_uint_eq(passed.writes, 1);
    assert_near(passed.reads, 1010u, 3u);
}
END_TEST

/* ---- changes --------------------------------------------------------------------------------- */

START_TEST(new_limits_hold_for_those_that_wait)
{
    limit(THROTTLE_IOPS, 1, 0, 1);
    add(BLOCK_READ, 512, 1000);
    assert_near(run_for(5 * NS_PER_S).reads, 6u, 1u);
    limit(THROTTLE_IOPS, 100, 0, 1);
    assert_near(run_for(5 * NS_PER_S).reads, 510u, 2u);
    limit(THROTTLE_IOPS, 0, 0, 1);
    ck_assert(!throttle.on);
    ck_assert_uint_gt(run_for(0).reads, 400);
}
END_TEST

START_TEST(all_can_be_taken_whatever_the_limits_and_later_ones_wait_for_it)
{
    uint64_t wait_ns;
    unsigned n = 0;

    limit(THROTTLE_IOPS, 1, 0, 1);
    add(BLOCK_READ, 512, 10);
    add(BLOCK_WRITE, 512, 3);
    while (throttle_take(&throttle))
        n++;
    ck_assert_uint_eq(n, 13);
    add(BLOCK_READ, 512, 1);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
    assert_near(wait_ns, 12900000000u, 1000u); /* what is above a tenth of an operation */
}
END_TEST

static bool is_longer_than(const struct block_req *req, const void *len)
{
    return req->len > *(const uint64_t *)len;
}

START_TEST(those_that_are_withdrawn_do_not_count)
{
    const uint64_t len = 512;
    struct list withdrawn;
    unsigned n = 0;

    list_init(&withdrawn);
    limit(THROTTLE_IOPS, 10, 0, 1);
    for (unsigned i = 0; i < 5; i++) {
        add(BLOCK_READ, 4096, 1);
        add(BLOCK_WRITE, 512, 1);
        add(BLOCK_WRITE, 4096, 1);
    }
    throttle_withdraw(&throttle, is_longer_than, &len, &withdrawn);
    for (struct list *link = withdrawn.next; link != &withdrawn; link = link->next, n++)
        ck_assert_uint_eq(container_of(link, struct block_req, link)->len, 4096);
    ck_assert_uint_eq(n, 10);
    ck_assert_uint_eq(run_for(0).writes, 2);
    ck_assert_uint_eq(run_for(NS_PER_S).writes, 3);
}
END_TEST

START_TEST(a_clock_that_stands_or_goes_back_lets_nobody_in)
{
    uint64_t wait_ns;

    limit(THROTTLE_IOPS, 10, 0, 1);
    add(BLOCK_READ, 512, 4);
    (void)throttle_next(&throttle, now_ns, &wait_ns);
    (void)throttle_next(&throttle, now_ns, &wait_ns);
    ck_assert_ptr_null(throttle_next(&throttle, now_ns - NS_PER_S, &wait_ns));
    ck_assert_ptr_null(throttle_next(&throttle, now_ns, &wait_ns));
    assert_near(wait_ns, 100000000u, 1000u);
}
END_TEST

/* ---- limits that make no sense --------------------------------------------------------------- */

static const struct {
    struct throttle_limit limit;
    uint64_t iops_size;
    const char *message;
    enum throttle_kind kind;
    bool twice; /* with a total limit, too */
} refused[] = {
    {{1, 0, 1},
     0,
     "bps/iops/max total values and read/write values cannot be used at the same time",
     THROTTLE_BPS_RD,
     true},
    {{1, 0, 1}, 4096, "iops size requires an iops value to be set", THROTTLE_BPS, false},
    {{1, 0, 1},
     1000000000000001,
     "iops size must be within [0, 1000000000000000]",
     THROTTLE_IOPS,
     false},
    {{1000000000000001, 0, 1},
     0,
     "bps/iops/max values must be within [0, 1000000000000000]",
     THROTTLE_BPS,
     false},
    {{1, 0, 0}, 0, "the burst length cannot be 0", THROTTLE_IOPS_WR, false},
    {{1, 0, 2}, 0, "burst length set without burst rate", THROTTLE_IOPS_WR, false},
    {{1, 1000000, 1000000001},
     0,
     "burst length too high for this burst rate",
     THROTTLE_IOPS_WR,
     false},
    {{0, 5, 1}, 0, "bps_max/iops_max require corresponding bps/iops values", THROTTLE_IOPS, false},
    {{6, 5, 1}, 0, "bps_max/iops_max cannot be lower than bps/iops", THROTTLE_IOPS, false},
};

START_TEST(limits_that_make_no_sense_are_refused)
{
    struct err err = {0};

    ck_assert_int_eq(throttle_limits_check(&limits, &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        throttle_limits_init(&limits);
        limits.kinds[refused[i].kind] = refused[i].limit;
        limits.kinds[THROTTLE_BPS].avg += refused[i].twice;
        limits.iops_size = refused[i].iops_size;
        ck_assert_int_eq(throttle_limits_check(&limits, &err), -EINVAL);
        ck_assert_str_eq(err.msg, refused[i].message);
    }
    throttle_limits_init(&limits);
    limits.kinds[THROTTLE_BPS] = (struct throttle_limit){THROTTLE_VALUE_MAX, THROTTLE_VALUE_MAX, 1};
    limits.kinds[THROTTLE_IOPS_RD] = (struct throttle_limit){1, 2, 3};
    limits.iops_size = 1;
    ck_assert_int_eq(throttle_limits_check(&limits, &err), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "rates", setup, NULL, without_limits_all_pass_in_turn_and_nobody_waits,
                   operations_come_at_their_rate, bytes_come_at_their_rate_whatever_the_size,
                   a_request_larger_than_the_bucket_passes_and_the_next_waits_for_it,
                   limits_concern_their_direction_alone, discards_are_operations_without_bytes,
                   zeroes_count_as_the_bytes_that_they_stand_for,
                   long_requests_count_as_several_operations);
    unit_case_with(suite, "bursts", setup, NULL, a_burst_comes_after_a_time_of_quiet,
                   a_long_burst_is_no_faster_than_its_own_rate);
    unit_case_with(suite, "fairness", setup, NULL, reads_and_writes_share_a_common_limit,
                   who_comes_last_waits_behind_those_who_wait,
                   a_direction_that_has_to_wait_longer_does_not_hold_up_the_other);
    unit_case_with(suite, "changes", setup, NULL, new_limits_hold_for_those_that_wait,
                   all_can_be_taken_whatever_the_limits_and_later_ones_wait_for_it,
                   those_that_are_withdrawn_do_not_count,
                   a_clock_that_stands_or_goes_back_lets_nobody_in);
    unit_case_with(suite, "refused", setup, NULL, limits_that_make_no_sense_are_refused);
}

UNIT_MAIN("throttle", add_tests)
