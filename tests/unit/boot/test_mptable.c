/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/mptable_x86.h"

#include <string.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "tests/lib/unit.h"

enum { PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT, NTYPES };

static const size_t entry_sizes[NTYPES] = {20, 8, 8, 8, 8};
static uint8_t table[16 * KIB];

static uint8_t sum(const uint8_t *data, size_t len)
{
    uint8_t s = 0;

    for (size_t i = 0; i < len; i++)
        s += data[i];
    return s;
}

START_TEST(the_pointer_leads_to_the_table)
{
    uint8_t pointer[MPTABLE_POINTER_SIZE];

    mptable_build_pointer(0x000e1230, pointer);
    ck_assert_mem_eq(pointer, "_MP_", 4);
    ck_assert_uint_eq(load_le32(pointer + 4), 0x000e1230);
    ck_assert_uint_eq(pointer[8], 1);
    ck_assert_uint_eq(sum(pointer, sizeof(pointer)), 0);
}
END_TEST

START_TEST(entries_are_sorted_counted_and_summed)
{
    static const unsigned ncpus[] = {1, 2, 255};

    for (size_t i = 0; i < ARRAY_SIZE(ncpus); i++) {
        unsigned counts[NTYPES] = {0}, nentries = 0;
        size_t len = mptable_build(ncpus[i], table, sizeof(table)), off = 44;
        uint8_t last = 0;

        ck_assert_mem_eq(table, "PCMP", 4);
        ck_assert_uint_eq(load_le16(table + 4), len);
        ck_assert_uint_eq(sum(table, len), 0);
        ck_assert_uint_eq(load_le32(table + 36), X86_LAPIC);
        while (off < len) {
            uint8_t type = table[off];

            ck_assert_uint_lt(type, NTYPES);
            ck_assert_uint_ge(type, last);
            last = type;
            counts[type]++;
            nentries++;
            off += entry_sizes[type];
        }
        ck_assert_uint_eq(off, len);
        ck_assert_uint_eq(load_le16(table + 34), nentries);
        ck_assert_uint_eq(counts[PROCESSOR], ncpus[i]);
        ck_assert_uint_eq(counts[BUS], 1);
        ck_assert_uint_eq(counts[IOAPIC], 1);
        ck_assert_uint_eq(counts[IO_INTERRUPT], X86_NIRQ_PINS - 1);
        ck_assert_uint_eq(counts[LOCAL_INTERRUPT], 2);
    }
}
END_TEST

START_TEST(only_the_first_cpu_boots_the_others)
{
    mptable_build(3, table, sizeof(table));
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        ck_assert_uint_eq(table[44 + 20 * cpu + 1], cpu);
        ck_assert_uint_eq(table[44 + 20 * cpu + 3], cpu == 0 ? 3 : 1);
    }
}
END_TEST

START_TEST(every_virtio_interrupt_has_a_pin_of_its_number)
{
    size_t len = mptable_build(1, table, sizeof(table));

    for (unsigned i = 0; i < X86_VIRTIO_DEVICES_MAX; i++) {
        uint8_t gsi = (uint8_t)x86_virtio_gsi(i);
        const uint8_t expected[8] = {IO_INTERRUPT, 0, 0, 0, 0, gsi, 1, gsi};

        ck_assert_ptr_nonnull(memmem(table, len, expected, sizeof(expected)));
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "table", the_pointer_leads_to_the_table, entries_are_sorted_counted_and_summed,
              only_the_first_cpu_boots_the_others, every_virtio_interrupt_has_a_pin_of_its_number);
}

UNIT_MAIN("mptable", add_tests)
