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

/* A table for a kernel of `kernel_len` bytes. */
static int parse(const uint32_t *words, size_t n, uint64_t kernel_len, struct relocs *relocs)
{
    const struct relocs_kernel kernel = {.link_gpa = LINK, .len = kernel_len};

    return relocs_parse((const uint8_t *)words, n * sizeof(words[0]), &kernel, relocs, &err);
}

START_TEST(a_table_with_an_inverse_list_is_read)
{
    static const uint32_t table[] = {0,          FIRST, FIRST + 8, FIRST + 16, 0,
                                     FIRST + 24, 0,     FIRST + 1, FIRST + 2};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, ARRAY_SIZE(table), 28, &relocs), 0);
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
    static const uint32_t table[] = {0, FIRST, FIRST + 8, 0, FIRST + 24};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, ARRAY_SIZE(table), 28, &relocs), 0);
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

    ck_assert_int_eq(parse(table, 3, 0, &relocs), 0);
    ck_assert_uint_eq(relocs.add64.n + relocs.subtract32.n + relocs.add32.n, 0);
    ck_assert_int_eq(parse(table, 2, 0, &relocs), 0);
}
END_TEST

START_TEST(what_is_no_table_is_refused)
{
    static const uint32_t no_zero[] = {FIRST, 0, FIRST}, one[] = {0, FIRST, FIRST},
                          four[] = {0, FIRST, 0, FIRST, 0, FIRST, 0};
    const struct relocs_kernel kernel = {.link_gpa = LINK, .len = MIB};
    struct relocs relocs;

    ck_assert_int_eq(parse(no_zero, ARRAY_SIZE(no_zero), MIB, &relocs), -EINVAL);
    ck_assert_int_eq(parse(one, ARRAY_SIZE(one), MIB, &relocs), -EINVAL);
    ck_assert_int_eq(parse(four, ARRAY_SIZE(four), MIB, &relocs), -EINVAL);
    ck_assert_int_eq(parse(four, 0, MIB, &relocs), -EINVAL);
    ck_assert_int_eq(
        relocs_parse((const uint8_t *)four, 5 * sizeof(four[0]) + 1, &kernel, &relocs, &err),
        -EINVAL);
}
END_TEST

/* Pieces of the kernel are found in a list by its order. */
START_TEST(a_list_that_is_not_in_order_is_refused)
{
    static const uint32_t tables[][7] = {
        {0, FIRST + 8, FIRST, 0, FIRST, 0, FIRST},
        {0, FIRST, 0, FIRST + 4, FIRST, 0, FIRST},
        {0, FIRST, 0, FIRST, 0, FIRST + 4, FIRST},
    };
    struct relocs relocs;

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        ck_assert_int_eq(parse(tables[i], 7, MIB, &relocs), -EINVAL);
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
    static const uint32_t last[] = {0, FIRST + 24, 0, FIRST + 28, 0, FIRST + 28};
    struct relocs relocs;

    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        ck_assert_int_eq(parse(tables[i], 4, 32, &relocs), -EINVAL);
    ck_assert_int_eq(parse(last, ARRAY_SIZE(last), 32, &relocs), 0);
}
END_TEST

static const uint32_t places[] = {0, FIRST, FIRST + 25, 0, FIRST + 12, 0, FIRST + 18};

static void make_kernel(uint8_t kernel[33])
{
    memset(kernel, 0xff, 33);
    store_le64(kernel, 0xffffffff81000000);
    store_le64(kernel + 25, 0xffffffffff000000);
    store_le32(kernel + 12, 0x100);
    store_le32(kernel + 18, 0xff000000);
}

START_TEST(places_are_moved_by_the_delta)
{
    struct relocs relocs;
    uint8_t kernel[33];

    make_kernel(kernel);
    ck_assert_int_eq(parse(places, ARRAY_SIZE(places), sizeof(kernel), &relocs), 0);
    relocs_apply(&relocs, kernel, 0, sizeof(kernel), DELTA);
    ck_assert_uint_eq(load_le64(kernel), 0xffffffff81000000 + DELTA);
    ck_assert_uint_eq(load_le64(kernel + 25), 0xffffffffff000000 + DELTA);
    ck_assert_uint_eq(load_le32(kernel + 12), 0x100 - DELTA);
    ck_assert_uint_eq(load_le32(kernel + 18), (uint32_t)(0xff000000 + (uint64_t)DELTA));
    ck_assert_uint_eq(load_le32(kernel + 8), UINT32_MAX);
    ck_assert_uint_eq(load_le16(kernel + 16), UINT16_MAX);
    ck_assert_uint_eq(load_le16(kernel + 22), UINT16_MAX);
}
END_TEST

/* A place belongs to the piece that its first byte is in, also if its last byte is in the next. */
START_TEST(pieces_make_the_whole)
{
    uint8_t whole[33], kernel[33];
    struct relocs relocs;

    make_kernel(whole);
    ck_assert_int_eq(parse(places, ARRAY_SIZE(places), sizeof(whole), &relocs), 0);
    relocs_apply(&relocs, whole, 0, sizeof(whole), DELTA);
    for (size_t len = 1; len <= sizeof(kernel); len++) {
        make_kernel(kernel);
        for (size_t off = 0; off < sizeof(kernel); off += len)
            relocs_apply(&relocs, kernel, off, len, DELTA);
        ck_assert_mem_eq(kernel, whole, sizeof(kernel));
    }
}
END_TEST

START_TEST(pages_with_places_are_counted_once)
{
    static const uint32_t table[] = {
        0, FIRST,          FIRST + 8, FIRST + 0x2ff8,   FIRST + 0x3000,
        0, FIRST + 0x2000, 0,         FIRST + 0x1fffff, FIRST + 0x200000};
    struct relocs relocs;

    ck_assert_int_eq(parse(table, ARRAY_SIZE(table), 3 * MIB, &relocs), 0);
    ck_assert_uint_eq(relocs_count_pages(&relocs, 0, 2 * MIB), 4);
    ck_assert_uint_eq(relocs_count_pages(&relocs, 2 * MIB, MIB), 1);
    ck_assert_uint_eq(relocs_count_pages(&relocs, 0x1000, 0x2000), 1);
    ck_assert_uint_eq(relocs_count_pages(&relocs, 0x4000, 0x1000), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "table", a_table_with_an_inverse_list_is_read,
              a_table_without_an_inverse_list_is_read, lists_may_be_empty,
              what_is_no_table_is_refused, a_list_that_is_not_in_order_is_refused,
              places_outside_the_kernel_are_refused);
    unit_case(suite, "kernel", places_are_moved_by_the_delta, pieces_make_the_whole,
              pages_with_places_are_counted_once);
}

UNIT_MAIN("relocs", add_tests)
