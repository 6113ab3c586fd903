/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "boot/relocs_x86.h"
#include "tests/lib/unit.h"

#define LINK 0x1000000u
#define FIRST (0x80000000u + LINK) /* of the kernel, as a word */
#define DELTA 0x2a00000u

static struct err err;

static int parse(const uint32_t *words, size_t n, struct relocs *relocs)
{
    return relocs_parse((const uint8_t *)words, n * sizeof(words[0]), relocs, &err);
}

START_TEST(a_table_with_an_inverse_list_is_read)
{
    static const uint32_t table[] = {0, 1, 2, 3, 0, 4, 0, 5, 6};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, ARRAY_SIZE(table), &relocs), 0);
    ck_assert_uint_eq(relocs.add64.n, 3);
    ck_assert_uint_eq(relocs.subtract32.n, 1);
    ck_assert_uint_eq(relocs.add32.n, 2);
    ck_assert_ptr_eq(relocs.add64.words, &table[1]);
    ck_assert_ptr_eq(relocs.subtract32.words, &table[5]);
    ck_assert_ptr_eq(relocs.add32.words, &table[7]);
}
END_TEST

START_TEST(a_table_without_an_inverse_list_is_read)
{
    static const uint32_t table[] = {0, 1, 2, 0, 5};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, ARRAY_SIZE(table), &relocs), 0);
    ck_assert_uint_eq(relocs.add64.n, 2);
    ck_assert_uint_eq(relocs.subtract32.n, 0);
    ck_assert_uint_eq(relocs.add32.n, 1);
    ck_assert_ptr_eq(relocs.add32.words, &table[4]);
}
END_TEST

START_TEST(lists_may_be_empty)
{
    static const uint32_t table[] = {0, 0, 0};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, 3, &relocs), 0);
    ck_assert_uint_eq(relocs.add64.n + relocs.subtract32.n + relocs.add32.n, 0);
    ck_assert_int_eq(parse(table, 2, &relocs), 0);
}
END_TEST

START_TEST(what_is_no_table_is_refused)
{
    static const uint32_t no_zero[] = {1, 0, 2}, one[] = {0, 1, 2}, four[] = {0, 1, 0, 2, 0, 3, 0};
    struct relocs relocs;

    ck_assert_int_eq(parse(no_zero, ARRAY_SIZE(no_zero), &relocs), -EINVAL);
    ck_assert_int_eq(parse(one, ARRAY_SIZE(one), &relocs), -EINVAL);
    ck_assert_int_eq(parse(four, ARRAY_SIZE(four), &relocs), -EINVAL);
    ck_assert_int_eq(parse(four, 0, &relocs), -EINVAL);
    ck_assert_int_eq(relocs_parse((const uint8_t *)four, 5 * sizeof(four[0]) + 1, &relocs, &err),
                     -EINVAL);
}
END_TEST

static int apply(const uint32_t *words, size_t n, uint8_t *kernel, size_t len)
{
    struct relocs relocs;

    ck_assert_int_eq(parse(words, n, &relocs), 0);
    return relocs_apply(&relocs, kernel, len, LINK, DELTA, &err);
}

START_TEST(places_are_moved_by_the_delta)
{
    static const uint32_t table[] = {0, FIRST, FIRST + 25, 0, FIRST + 12, 0, FIRST + 18};
    uint8_t kernel[33];

    memset(kernel, 0xff, sizeof(kernel));
    store_le64(kernel, 0xffffffff81000000);
    store_le64(kernel + 25, 0xffffffffff000000);
    store_le32(kernel + 12, 0x100);
    store_le32(kernel + 18, 0xff000000);
    ck_assert_int_eq(apply(table, ARRAY_SIZE(table), kernel, sizeof(kernel)), 0);
    ck_assert_uint_eq(load_le64(kernel), 0xffffffff81000000 + DELTA);
    ck_assert_uint_eq(load_le64(kernel + 25), 0xffffffffff000000 + DELTA);
    ck_assert_uint_eq(load_le32(kernel + 12), 0x100 - DELTA);
    ck_assert_uint_eq(load_le32(kernel + 18), (uint32_t)(0xff000000 + (uint64_t)DELTA));
    ck_assert_uint_eq(load_le32(kernel + 8), UINT32_MAX);
    ck_assert_uint_eq(load_le16(kernel + 16), UINT16_MAX);
    ck_assert_uint_eq(load_le16(kernel + 22), UINT16_MAX);
}
END_TEST

START_TEST(places_outside_the_kernel_are_refused)
{
    /* 64-bit, inverse and 32-bit; below, over the end, far away, in the lower half. */
    static const uint32_t tables[][4] = {
        {0, FIRST - 1, 0, 0},  {0, FIRST + 25, 0, 0},  {0, UINT32_MAX, 0, 0}, {0, 1, 0, 0},
        {0, 0, FIRST - 4, 0},  {0, 0, FIRST + 29, 0},  {0, 0, UINT32_MAX, 0}, {0, 0, 0x7fffffff, 0},
        {0, 0, 0, FIRST + 29}, {0, 0, 0, 0x80000000u}, {0, 0, 0, FIRST - 1},  {0, 0, 0, LINK},
    };

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        uint8_t kernel[32] = {0}, before[32] = {0};

        ck_assert_int_eq(apply(tables[i], 4, kernel, sizeof(kernel)), -EINVAL);
        ck_assert_mem_eq(kernel, before, sizeof(kernel));
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "table", a_table_with_an_inverse_list_is_read,
              a_table_without_an_inverse_list_is_read, lists_may_be_empty,
              what_is_no_table_is_refused);
    unit_case(suite, "kernel", places_are_moved_by_the_delta,
              places_outside_the_kernel_are_refused);
}

UNIT_MAIN("relocs", add_tests)
