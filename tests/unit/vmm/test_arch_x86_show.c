/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is shown of page tables, which a guest makes as it likes.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "memory/bits_x86.h"
#include "tests/lib/unit.h"
#include "vmm/arch_x86_show.h"

#define PRESENT PTE_PRESENT
#define WRITE PTE_WRITE
#define USER PTE_USER
#define LARGE PTE_LARGE

#define ROOT 0x1000ull
#define RAM_LEN (4 * MIB)

static struct guest_mem *mem;

static void set_up(void)
{
    const struct mem_range range = {.gpa = 0, .len = RAM_LEN};
    struct err err;

    ck_assert_int_eq(guest_mem_new(&range, 1, &mem, &err), 0);
}

static void tear_down(void)
{
    guest_mem_free(mem);
}

static void set_entry(uint64_t table, unsigned index, uint64_t entry)
{
    void *host;

    ck_assert_int_eq(guest_mem_at(mem, table + 8ull * index, 8, &host), 0);
    entry = htole64(entry);
    memcpy(host, &entry, 8);
}

static const char *show_as(const struct page_walk_x86 *paging)
{
    static char text[1 << 20];
    FILE *out = fmemopen(text, sizeof(text), "w");

    ck_assert_ptr_nonnull(out);
    arch_x86_show_mappings(paging, mem, out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

/* As in 64-bit mode. */
static const char *show(unsigned levels)
{
    return show_as(&(struct page_walk_x86){.cr0 = CR0_PG,
                                           .cr3 = ROOT,
                                           .cr4 = CR4_PAE | (levels == 5 ? CR4_LA57 : 0),
                                           .efer = EFER_LMA});
}

START_TEST(pages_with_the_same_rights_are_one_range)
{
    set_entry(ROOT, 0, 0x2000 | PRESENT | WRITE | USER);
    set_entry(ROOT, 256, 0x2000 | PRESENT | WRITE); /* the kernel's half: the same, but not USER */
    set_entry(0x2000, 0, 0x3000 | PRESENT | WRITE | USER);
    set_entry(0x2000, 1, PRESENT | LARGE | USER); /* 1 GiB */
    set_entry(0x3000, 511, 0x4000 | PRESENT | WRITE | USER);
    set_entry(0x4000, 510, 0x7000 | PRESENT | WRITE | USER);
    set_entry(0x4000, 511, 0x9000 | PRESENT | USER); /* read-only, as what follows */
    ck_assert_str_eq(show(4), "000000003fffe000-000000003ffff000 0000000000001000 urw\n"
                              "000000003ffff000-0000000080000000 0000000040001000 ur-\n"
                              "ffff80003fffe000-ffff80003ffff000 0000000000001000 -rw\n"
                              "ffff80003ffff000-ffff800080000000 0000000040001000 -r-\n");
}
END_TEST

START_TEST(five_levels_are_one_more)
{
    set_entry(ROOT, 256, 0x2000 | PRESENT | WRITE);
    set_entry(0x2000, 0, 0x3000 | PRESENT | WRITE);
    set_entry(0x3000, 0, PRESENT | LARGE | WRITE);
    ck_assert_str_eq(show(5), "ff00000000000000-ff00000040000000 0000000040000000 -rw\n");
}
END_TEST

START_TEST(paging_that_is_off_is_said)
{
    ck_assert_str_eq(show_as(&(struct page_walk_x86){.cr3 = ROOT}),
                     "paging is off: addresses are physical\n");
}
END_TEST

/* The four entries of the first table say nothing of rights: those bits are reserved. */
START_TEST(pae_has_three_levels)
{
    set_entry(ROOT, 3, 0x2000 | PRESENT);
    set_entry(ROOT, 4, 0x2000 | PRESENT | WRITE); /* not of this table */
    set_entry(0x2000, 0, 0x3000 | PRESENT | WRITE);
    set_entry(0x2000, 1, PRESENT | LARGE | WRITE | USER);
    set_entry(0x3000, 511, 0x7000 | PRESENT | WRITE | USER);
    ck_assert_str_eq(show_as(&(struct page_walk_x86){.cr0 = CR0_PG, .cr3 = ROOT, .cr4 = CR4_PAE}),
                     "00000000c01ff000-00000000c0200000 0000000000001000 -rw\n"
                     "00000000c0200000-00000000c0400000 0000000000200000 urw\n");
}
END_TEST

/* Two entries of four bytes in each of these. */
START_TEST(two_levels_have_short_entries)
{
    const uint64_t second = 1ull << 32;

    set_entry(ROOT, 0, 0x2000 | PRESENT | WRITE | second * (PRESENT | LARGE | WRITE));
    set_entry(0x2000, 511, second * (0x7000 | PRESENT | WRITE));
    ck_assert_str_eq(show_as(&(struct page_walk_x86){.cr0 = CR0_PG, .cr3 = ROOT, .cr4 = CR4_PSE}),
                     "00000000003ff000-0000000000800000 0000000000401000 -rw\n");
}
END_TEST

START_TEST(tables_outside_ram_are_nothing)
{
    set_entry(ROOT, 0, RAM_LEN | PRESENT | WRITE);
    set_entry(ROOT, 1, 0x000ffffffffff000 | PRESENT | WRITE);
    ck_assert_str_eq(show(4), "");
}
END_TEST

/* The table is in itself 512 times: 2^45 pages. Every second entry has other rights. */
static void show_table_in_itself(uint64_t rights, uint64_t other_rights)
{
    const uint64_t start_ns = monotonic_ns();
    const char *text;

    for (unsigned i = 0; i < 512; i++)
        set_entry(ROOT, i, ROOT | PRESENT | (i % 2 == 0 ? rights : other_rights));
    text = show(5);
    ck_assert(strstr(text, "(cut off)\n"));
    ck_assert_uint_lt(strlen(text), 200000);
    ck_assert_uint_lt(monotonic_ns() - start_ns, 5 * NS_PER_S);
}

START_TEST(too_many_ranges_are_cut_off)
{
    show_table_in_itself(WRITE, USER);
}
END_TEST

START_TEST(too_many_tables_are_cut_off)
{
    show_table_in_itself(WRITE, WRITE);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "mappings", set_up, tear_down, pages_with_the_same_rights_are_one_range,
                   five_levels_are_one_more, paging_that_is_off_is_said, pae_has_three_levels,
                   two_levels_have_short_entries, tables_outside_ram_are_nothing,
                   too_many_ranges_are_cut_off, too_many_tables_are_cut_off);
}

UNIT_MAIN("arch_x86_show", add_tests)
