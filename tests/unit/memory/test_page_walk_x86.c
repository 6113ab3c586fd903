/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/page_walk_x86.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/dice.h"
#include "tests/lib/unit.h"

#define MEM_LEN (4 * MIB)

#define PG (1ull << 31)
#define PSE (1ull << 4)
#define PAE (1ull << 5)
#define LA57 (1ull << 12)
#define LMA (1ull << 10)

#define PRESENT 0x67ull /* present, writable, for users, accessed, dirty */
#define LARGE 0x80ull
#define NX (1ull << 63)

static struct guest_mem *mem;

static const struct page_walk_x86 four_levels = {.cr0 = PG, .cr3 = 0x1000, .cr4 = PAE, .efer = LMA};
static const struct page_walk_x86 five_levels = {
    .cr0 = PG, .cr3 = 0x5018, .cr4 = PAE | LA57, .efer = LMA};

static void set_up(void)
{
    static const struct mem_range range = {.gpa = 0, .len = MEM_LEN};
    struct err err = {0};

    ck_assert_msg(guest_mem_new(&range, 1, &mem, &err) == 0, "%s", err.msg);
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

static void put64(uint64_t gpa, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    ck_assert_int_eq(guest_mem_write(mem, gpa, bytes, sizeof(bytes)), 0);
}

static void put32(uint64_t gpa, uint32_t value)
{
    uint8_t bytes[4];

    store_le32(bytes, value);
    ck_assert_int_eq(guest_mem_write(mem, gpa, bytes, sizeof(bytes)), 0);
}

static void expect(const struct page_walk_x86 *how, uint64_t va, uint64_t gpa, uint64_t len)
{
    uint64_t found = 0, found_len = 0;

    ck_assert_msg(page_walk_x86(mem, how, va, &found, &found_len) == 0, "%#llx is not mapped",
                  (unsigned long long)va);
    ck_assert_uint_eq(found, gpa);
    ck_assert_uint_eq(found_len, len);
}

static void expect_nothing(const struct page_walk_x86 *how, uint64_t va)
{
    uint64_t gpa = 1, len = 1;

    ck_assert_int_eq(page_walk_x86(mem, how, va, &gpa, &len), -EFAULT);
    ck_assert_uint_eq(gpa, 1);
}

/* Tables in which the top 2 GiB, as kernels use them, have pages of all three sizes. */
static void map_kernel(uint64_t pml4)
{
    put64(pml4 + 511ull * 8, 0x2000 | PRESENT);
    put64(0x2000 + 509 * 8, 0x40000000 | PRESENT | LARGE | NX); /* 0xffffffff40000000: 1 GiB */
    put64(0x2000 + 510 * 8, 0x3000 | PRESENT);
    put64(0x3000 + 8 * 8, 0x200000 | PRESENT | LARGE); /* 0xffffffff81000000: 2 MiB */
    put64(0x3000 + 9 * 8, 0x4000 | PRESENT);
    put64(0x4000 + 0 * 8, 0x123000 | PRESENT | NX); /* 0xffffffff81200000: 4 KiB */
    put64(0x4000 + 1 * 8, 0x124000);                /* not present */
}

START_TEST(addresses_are_physical_without_paging)
{
    const struct page_walk_x86 off = {.cr3 = 0x1000};

    expect(&off, 0x1234, 0x1234, 0x1000 - 0x234);
}
END_TEST

START_TEST(four_levels_have_pages_of_three_sizes)
{
    map_kernel(0x1000);
    expect(&four_levels, 0xffffffff40012345, 0x40012345, GIB - 0x12345);
    expect(&four_levels, 0xffffffff81000000, 0x200000, 2 * MIB);
    expect(&four_levels, 0xffffffff811fffff, 0x3fffff, 1);
    expect(&four_levels, 0xffffffff81200abc, 0x123abc, 0x1000 - 0xabc);
}
END_TEST

START_TEST(five_levels_have_one_more)
{
    put64(0x5000 + 511 * 8, 0x1000 | PRESENT);
    map_kernel(0x1000);
    expect(&five_levels, 0xffffffff81200abc, 0x123abc, 0x1000 - 0xabc);
    expect_nothing(&five_levels, 0xffff000000000000);
    expect_nothing(&five_levels, 0x0100000000000000);
    expect_nothing(&five_levels, 0x01ffffff81200abc);
}
END_TEST

START_TEST(what_is_not_mapped_is_not_found)
{
    map_kernel(0x1000);
    expect_nothing(&four_levels, 0);
    expect_nothing(&four_levels, 0xffffffff81201000); /* no page */
    expect_nothing(&four_levels, 0xffffffff82000000); /* no table */
    expect_nothing(&four_levels, 0xffff7fffffffffff); /* not canonical */
    expect_nothing(&four_levels, 0x0000800000000000);
    expect_nothing(&four_levels, 0x0000ffff81200abc); /* only the lower bits are the same */
}
END_TEST

START_TEST(tables_outside_memory_are_no_tables)
{
    struct page_walk_x86 how = four_levels;

    put64(0x1000, 0x000ffffffffff000 | PRESENT);
    expect_nothing(&how, 0x1000);
    how.cr3 = MEM_LEN;
    expect_nothing(&how, 0x1000);
    how.cr3 = UINT64_MAX;
    expect_nothing(&how, 0x1000);
}
END_TEST

START_TEST(pae_has_three_levels)
{
    const struct page_walk_x86 how = {.cr0 = PG, .cr3 = 0x1020, .cr4 = PAE};

    put64(0x1020 + 3 * 8, 0x2000 | 1);
    put64(0x2000 + 1 * 8, 0x3000 | PRESENT);
    put64(0x2000 + 2 * 8, 0x200000 | PRESENT | LARGE);
    put64(0x3000 + 5 * 8, 0x7000 | PRESENT);
    expect(&how, 0xc0205010, 0x7010, 0xff0);
    expect(&how, 0xc0400001, 0x200001, 2 * MIB - 1);
    expect_nothing(&how, 0x1c0205010);
    expect_nothing(&how, 0x205010);
}
END_TEST

START_TEST(two_levels_have_pages_of_four_mebibytes_on_request)
{
    struct page_walk_x86 how = {.cr0 = PG, .cr3 = 0x1000, .cr4 = PSE};

    put32(0x1000 + 1 * 4, 0x2000 | 1);
    put32(0x1000 + 2 * 4, 0x00c00000 | 1 | 0x80 | 0x2000); /* bit 13: 4 GiB are added */
    put32(0x2000 + 3 * 4, 0x9000 | 1);
    expect(&how, 0x00403456, 0x9456, 0xbaa);
    expect(&how, 0x00801234, 0x100c01234, 4 * MIB - 0x1234);
    how.cr4 = 0;
    expect_nothing(&how, 0x00801234);
}
END_TEST

START_TEST(reading_goes_from_page_to_page)
{
    uint8_t buf[0x1004];

    put64(0x1000, 0x2000 | PRESENT);
    put64(0x2000, 0x3000 | PRESENT);
    put64(0x3000, 0x4000 | PRESENT);
    put64(0x4000 + 1 * 8, 0x20000 | PRESENT);
    put64(0x4000 + 2 * 8, 0x10000 | PRESENT);
    put64(0x20ff8, 0x1111111111111111);
    put64(0x10000, 0x2222222222222222);
    ck_assert_int_eq(page_walk_x86_read(mem, &four_levels, 0x1ffe, buf, 4), 0);
    ck_assert_mem_eq(buf, "\x11\x11\x22\x22", 4);
    ck_assert_int_eq(page_walk_x86_read(mem, &four_levels, 0x1ffe, buf, sizeof(buf)), -EFAULT);
}
END_TEST

/* Whatever the tables say, the walk ends, and a page has a length. */
START_TEST(random_tables_do_no_harm)
{
    uint64_t dice = unit_seed();

    for (unsigned i = 0; i < MEM_LEN / 8; i++)
        put64(8ull * i, (uint64_t)dice_roll(&dice, MEM_LEN / 2) << 1 | 1);
    for (unsigned i = 0; i < 10000; i++) {
        const struct page_walk_x86 how = {
            .cr0 = PG,
            .cr3 = dice_roll(&dice, MEM_LEN),
            .cr4 = dice_roll(&dice, 2) * PAE | dice_roll(&dice, 2) * LA57,
            .efer = dice_roll(&dice, 2) * LMA,
        };
        uint64_t gpa, len = 0;

        if (page_walk_x86(mem, &how, dice_roll(&dice, UINT32_MAX), &gpa, &len) == 0)
            ck_assert_uint_gt(len, 0);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "walk", set_up, tear_down, addresses_are_physical_without_paging,
                   four_levels_have_pages_of_three_sizes, five_levels_have_one_more,
                   what_is_not_mapped_is_not_found, tables_outside_memory_are_no_tables,
                   pae_has_three_levels, two_levels_have_pages_of_four_mebibytes_on_request,
                   reading_goes_from_page_to_page, random_tables_do_no_harm);
}

UNIT_MAIN("page_walk_x86", add_tests)
