/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks of what was changed, beside an array.
 */
#include "block/dirty.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

#define UNITS ((uint64_t)1000)
#define LEN (UNITS * BLOCK_DIRTY_UNIT_MIN - 512) /* the last unit is not whole */

static struct block_dirty *dirty;
static bool expected[UNITS];

static void set_up(void)
{
    dirty = block_dirty_new(LEN);
    ck_assert_ptr_nonnull(dirty);
    for (uint64_t i = 0; i < UNITS; i++)
        expected[i] = true;
}

static void tear_down(void)
{
    free(dirty);
}

static uint64_t count(void)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < UNITS; i++)
        n += expected[i];
    return n;
}

/* Take the next run from `from` on, and compare; returns its end, or UNITS if there was none. */
static uint64_t take(uint64_t from, uint64_t max)
{
    uint64_t unit = from;
    uint64_t n = block_dirty_take(dirty, &unit, max);
    uint64_t first = from;
    uint64_t end;

    while (first < UNITS && !expected[first])
        first++;
    for (end = first; end < UNITS && end - first < max && expected[end]; end++)
        expected[end] = false;
    ck_assert_uint_eq(n, end - first);
    if (n > 0)
        ck_assert_uint_eq(unit, first);
    ck_assert_uint_eq(dirty->ndirty, count());
    return n > 0 ? end : UNITS;
}

START_TEST(all_is_marked_at_first)
{
    ck_assert_uint_eq(dirty->nunits, UNITS);
    ck_assert_uint_eq(dirty->ndirty, UNITS);
    for (uint64_t unit = 0; unit < UNITS;)
        unit = take(unit, 16);
    ck_assert_uint_eq(dirty->ndirty, 0);
    ck_assert_uint_eq(take(0, 16), UNITS);
}
END_TEST

START_TEST(marks_come_and_go)
{
    uint64_t dice = unit_seed();

    while (take(0, UNITS) < UNITS)
        ;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t off = dice_next(&dice) % LEN;
        uint64_t len = min_u64(1 + dice_roll(&dice, 300u << 10), LEN - off);

        if (dice_roll(&dice, 3) == 0) {
            (void)take(dice_roll(&dice, UNITS), 1 + dice_roll(&dice, 20));
            continue;
        }
        block_dirty_mark(dirty, off, len);
        for (uint64_t unit = off / BLOCK_DIRTY_UNIT_MIN;
             unit < div_round_up(off + len, BLOCK_DIRTY_UNIT_MIN); unit++)
            expected[unit] = true;
    }
}
END_TEST

/* Any disk is marked at once, with little memory, and its end as well as its beginning. */
START_TEST(a_large_disk_has_longer_units)
{
    static const uint64_t lens[] = {1ull << 40, (1ull << 40) + 512, 64ull << 40, INT64_MAX - 511};

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
        struct block_dirty *large = block_dirty_new(lens[i]);
        uint64_t unit;

        ck_assert_ptr_nonnull(large);
        ck_assert_uint_le(large->nunits, BLOCK_DIRTY_UNITS_MAX);
        ck_assert_uint_gt(large->nunits, BLOCK_DIRTY_UNITS_MAX / 2);
        ck_assert_uint_eq(large->ndirty, large->nunits);
        ck_assert_uint_eq(div_round_up(lens[i], large->unit), large->nunits);
        unit = 0;
        ck_assert_uint_eq(block_dirty_take(large, &unit, UINT64_MAX), large->nunits);
        ck_assert_uint_eq(large->ndirty, 0);
        block_dirty_mark(large, lens[i] - 512, 512);
        unit = 0;
        ck_assert_uint_eq(block_dirty_take(large, &unit, 1), 1);
        ck_assert_uint_eq(unit, large->nunits - 1);
        free(large);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "dirty", set_up, tear_down, all_is_marked_at_first, marks_come_and_go,
                   a_large_disk_has_longer_units);
}

UNIT_MAIN("block_dirty", add_tests)
