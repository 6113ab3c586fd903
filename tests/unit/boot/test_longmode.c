/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/bytes.h"
#include "boot/longmode_x86.h"
#include "tests/lib/unit.h"

#define TABLES_GPA 0x9000u

static uint8_t tables[LONGMODE_TABLES_SIZE];

/* The physical address that a virtual one leads to; all ones if it leads nowhere. */
static uint64_t translate(uint64_t a)
{
    uint64_t table = TABLES_GPA;

    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t entry;

        ck_assert(range_fits(table - TABLES_GPA, LONGMODE_PAGE, sizeof(tables)));
        entry = load_le64(tables + (table - TABLES_GPA) + 8 * (a >> shift & 511));
        if (!(entry & 1))
            return UINT64_MAX;
        if (entry & 0x80)
            return (entry & 0x000fffffffe00000) | (a & (2 * MIB - 1));
        table = entry & 0x000ffffffffff000;
    }
    return UINT64_MAX;
}

START_TEST(the_kernel_is_mapped_wherever_it_is)
{
    static const uint64_t kernels[] = {0,         16 * MIB,   GIB - 1,        3 * GIB,
                                       4 * GIB,   5 * GIB,    511 * GIB,      511 * GIB + 1,
                                       512 * GIB, 4095 * GIB, 1023 * GIB + 5, 131070 * GIB};

    for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
        uint64_t start = align_down(kernels[i], GIB);

        memset(tables, 0, sizeof(tables));
        longmode_fill_tables(TABLES_GPA, kernels[i], tables);
        for (uint64_t a = 0; a < 4 * GIB; a += 2 * MIB)
            ck_assert_uint_eq(translate(a + 5), a + 5);
        for (uint64_t a = start; a < start + 2 * GIB; a += 2 * MIB)
            ck_assert_uint_eq(translate(a + 7), a + 7);
        ck_assert_uint_eq(translate(max_u64(4 * GIB, start + 2 * GIB)), UINT64_MAX);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "tables", the_kernel_is_mapped_wherever_it_is);
}

UNIT_MAIN("longmode", add_tests)
