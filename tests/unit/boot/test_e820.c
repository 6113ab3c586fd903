/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"
#include "boot/e820.h"
#include "memory/layout_x86.h"
#include "tests/lib/unit.h"

/* What arch_x86.c makes of a memory size. */
static struct guest_mem memory_of(uint64_t size)
{
    struct guest_mem mem = {.nregions = 1};

    mem.regions[0].len = min_u64(size, X86_LOW_RAM_END);
    if (size > X86_LOW_RAM_END) {
        mem.regions[1].gpa = X86_HIGH_RAM_START;
        mem.regions[1].len = size - X86_LOW_RAM_END;
        mem.nregions = 2;
    }
    return mem;
}

static const uint64_t sizes[] = {
    32 * MIB,      33 * MIB,      1000 * MIB, 3 * GIB - MIB, 3 * GIB,
    3 * GIB + MIB, 4 * GIB - MIB, 4 * GIB,    64 * GIB,      4 * TIB,
};

START_TEST(all_ram_is_listed_but_the_legacy_area)
{
    struct guest_mem mem = memory_of(sizes[_i]);
    struct e820_entry table[E820_ENTRIES_MAX];
    size_t n = e820_build(&mem, table);
    uint64_t ram = 0;

    for (size_t i = 0; i < n; i++)
        ram += table[i].type == E820_RAM ? table[i].len : 0;
    ck_assert_uint_eq(ram, sizes[_i] - (X86_KERNEL_START - X86_EBDA_START));
}
END_TEST

START_TEST(ram_entries_lie_in_memory_slots)
{
    struct guest_mem mem = memory_of(sizes[_i]);
    struct e820_entry table[E820_ENTRIES_MAX];
    size_t n = e820_build(&mem, table);

    for (size_t i = 0; i < n; i++) {
        const struct mem_region *slot = &mem.regions[table[i].gpa < X86_HIGH_RAM_START ? 0 : 1];

        if (table[i].type == E820_RAM)
            ck_assert(table[i].gpa >= slot->gpa &&
                      table[i].gpa + table[i].len <= slot->gpa + slot->len);
    }
}
END_TEST

START_TEST(entries_ascend_and_do_not_overlap)
{
    struct guest_mem mem = memory_of(sizes[_i]);
    struct e820_entry table[E820_ENTRIES_MAX];
    size_t n = e820_build(&mem, table);

    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_gt(table[i].len, 0);
        if (i > 0)
            ck_assert_uint_le(table[i - 1].gpa + table[i - 1].len, table[i].gpa);
    }
}
END_TEST

START_TEST(a_machine_with_memory_on_both_sides_of_the_hole)
{
    static const struct e820_entry expected[] = {
        {0, 0x9fc00, E820_RAM},
        {0x9fc00, 0x60400, E820_RESERVED},
        {0x100000, 0xbff00000, E820_RAM},
        {0xfeffc000, 0x4000, E820_RESERVED},
        {0x100000000, 0x100000, E820_RAM},
    };
    struct guest_mem mem = memory_of(3 * GIB + MIB);
    struct e820_entry table[E820_ENTRIES_MAX];

    ck_assert_uint_eq(e820_build(&mem, table), ARRAY_SIZE(expected));
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        ck_assert_uint_eq(table[i].gpa, expected[i].gpa);
        ck_assert_uint_eq(table[i].len, expected[i].len);
        ck_assert_int_eq(table[i].type, expected[i].type);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    const TTest *const for_each_size[] = {
        all_ram_is_listed_but_the_legacy_area,
        ram_entries_lie_in_memory_slots,
        entries_ascend_and_do_not_overlap,
    };
    TCase *table = tcase_create("sizes");

    for (size_t i = 0; i < ARRAY_SIZE(for_each_size); i++)
        tcase_add_loop_test(table, for_each_size[i], 0, ARRAY_SIZE(sizes));
    suite_add_tcase(suite, table);
    unit_case(suite, "layout", a_machine_with_memory_on_both_sides_of_the_hole);
}

UNIT_MAIN("e820", add_tests)
