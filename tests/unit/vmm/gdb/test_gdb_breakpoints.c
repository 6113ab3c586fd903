/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/gdb/fake_target.h"
#include "vmm/gdb/breakpoints.h"

#define INT3 0xcc

static struct fake_target fake;
static struct gdb_breakpoints breakpoints;

static void set_up(void)
{
    fake_target_init(&fake);
    memset(fake.mem, 0x90, sizeof(fake.mem));
    memset(&breakpoints, 0, sizeof(breakpoints));
}

static void set(uint64_t va)
{
    ck_assert_int_eq(gdb_software_set(&breakpoints, &fake.target, 0, va), 0);
}

static void clear(uint64_t va)
{
    gdb_software_remove(&breakpoints, &fake.target, va);
}

START_TEST(software_breakpoint_is_an_int3_until_it_is_removed)
{
    set(0x100);
    ck_assert_uint_eq(fake.mem[0x100], INT3);
    ck_assert(gdb_breakpoints_has(&breakpoints, 0x100));
    ck_assert(!gdb_breakpoints_has(&breakpoints, 0x101));
    set(0x100);
    clear(0x101);
    ck_assert_uint_eq(fake.mem[0x100], INT3);
    clear(0x100);
    ck_assert_uint_eq(fake.mem[0x100], 0x90);
    ck_assert(!gdb_breakpoints_has(&breakpoints, 0x100));
}
END_TEST

START_TEST(where_no_memory_is_there_is_no_breakpoint)
{
    ck_assert_int_eq(gdb_software_set(&breakpoints, &fake.target, 0, FAKE_HOLE), -EFAULT);
    ck_assert_int_eq(gdb_software_set(&breakpoints, &fake.target, 0, FAKE_MEM), -EFAULT);
    ck_assert_uint_eq(breakpoints.nsoftware, 0);
}
END_TEST

START_TEST(two_addresses_of_one_byte_share_it)
{
    set(0x100);
    set(FAKE_ALIAS + 0x100);
    clear(0x100);
    ck_assert_uint_eq(fake.mem[0x100], INT3);
    ck_assert(gdb_breakpoints_has(&breakpoints, FAKE_ALIAS + 0x100));
    clear(FAKE_ALIAS + 0x100);
    ck_assert_uint_eq(fake.mem[0x100], 0x90);
}
END_TEST

START_TEST(what_the_guest_wrote_there_stays)
{
    set(0x100);
    fake.mem[0x100] = 0xe9;
    clear(0x100);
    ck_assert_uint_eq(fake.mem[0x100], 0xe9);
}
END_TEST

START_TEST(readers_do_not_see_breakpoints)
{
    uint8_t buf[4];

    set(0x101);
    set(0x104);
    memcpy(buf, fake.mem + 0x100, sizeof(buf));
    gdb_breakpoints_hide(&breakpoints, 0x100, buf, sizeof(buf));
    ck_assert_mem_eq(buf, "\x90\x90\x90\x90", 4);
    fake.mem[0x101] = 0x55;
    memcpy(buf, fake.mem + 0x100, sizeof(buf));
    gdb_breakpoints_hide(&breakpoints, 0x100, buf, sizeof(buf));
    ck_assert_mem_eq(buf, "\x90\x55\x90\x90", 4);
}
END_TEST

START_TEST(writers_do_not_remove_breakpoints)
{
    uint8_t buf[4] = {1, 2, 3, 4};

    set(0x101);
    set(FAKE_ALIAS + 0x101);
    gdb_breakpoints_keep(&breakpoints, 0x100, buf, sizeof(buf));
    ck_assert_mem_eq(buf, "\x01\xcc\x03\x04", 4);
    memcpy(fake.mem + 0x100, buf, sizeof(buf));
    gdb_breakpoints_remove_all(&breakpoints, &fake.target);
    ck_assert_mem_eq(fake.mem + 0x100, "\x01\x02\x03\x04", 4);
}
END_TEST

START_TEST(there_is_an_end_to_software_breakpoints)
{
    for (unsigned i = 0; i < GDB_SOFTWARE_MAX; i++)
        set(i);
    ck_assert_int_eq(gdb_software_set(&breakpoints, &fake.target, 0, GDB_SOFTWARE_MAX), -ENOSPC);
    gdb_breakpoints_remove_all(&breakpoints, &fake.target);
    ck_assert_uint_eq(fake.mem[0], 0x90);
    ck_assert_uint_eq(fake.mem[GDB_SOFTWARE_MAX - 1], 0x90);
}
END_TEST

START_TEST(after_a_reset_those_whose_instruction_is_there_come_back)
{
    set(0x100);
    set(0x200);
    set(0x300);
    memset(fake.mem, 0x90, sizeof(fake.mem));
    fake.mem[0x200] = 0x00;
    ck_assert_uint_eq(gdb_breakpoints_restore(&breakpoints, &fake.target), 1);
    ck_assert_uint_eq(fake.mem[0x100], INT3);
    ck_assert_uint_eq(fake.mem[0x200], 0x00);
    ck_assert_uint_eq(fake.mem[0x300], INT3);
    ck_assert(!gdb_breakpoints_has(&breakpoints, 0x200));
}
END_TEST

static int set_hardware(enum gdb_breakpoint_type type, uint64_t va, uint64_t len)
{
    const struct gdb_hardware hardware = {.type = type, .va = va, .len = len};

    return gdb_hardware_set(&breakpoints, &hardware);
}

START_TEST(watchpoints_are_cut_into_aligned_pieces)
{
    struct gdb_debug_register registers[GDB_HARDWARE_MAX];

    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, 0x1003, 6), 0);
    ck_assert_uint_eq(gdb_debug_registers(&breakpoints, registers), 3);
    ck_assert_uint_eq(registers[0].va, 0x1003);
    ck_assert_uint_eq(registers[0].len, 1);
    ck_assert_uint_eq(registers[1].va, 0x1004);
    ck_assert_uint_eq(registers[1].len, 4);
    ck_assert_uint_eq(registers[2].va, 0x1008);
    ck_assert_uint_eq(registers[2].len, 1);
}
END_TEST

START_TEST(there_are_four_debug_registers)
{
    struct gdb_hardware hardware = {.type = GDB_WATCH_ACCESS, .va = 0x1000, .len = 16};
    struct gdb_debug_register registers[GDB_HARDWARE_MAX];

    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, 0, UINT64_MAX), -ENOSPC);
    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, 0x1000, 33), -ENOSPC);
    ck_assert_int_eq(gdb_hardware_set(&breakpoints, &hardware), 0);
    ck_assert_int_eq(gdb_hardware_set(&breakpoints, &hardware), 0);
    ck_assert_int_eq(set_hardware(GDB_BREAK_HARDWARE, 0x10, 1), 0);
    ck_assert_int_eq(set_hardware(GDB_BREAK_HARDWARE, 0x20, 1), 0);
    ck_assert_int_eq(set_hardware(GDB_BREAK_HARDWARE, 0x30, 1), -ENOSPC);
    ck_assert_uint_eq(gdb_debug_registers(&breakpoints, registers), 4);
    ck_assert_uint_eq(registers[3].hardware, 2);
    gdb_hardware_remove(&breakpoints, &hardware);
    ck_assert_uint_eq(gdb_debug_registers(&breakpoints, registers), 2);
    ck_assert_int_eq(set_hardware(GDB_BREAK_HARDWARE, 0x30, 1), 0);
}
END_TEST

START_TEST(watchpoints_have_a_length_and_an_end)
{
    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, 0x1000, 0), -EINVAL);
    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, UINT64_MAX, 2), -EINVAL);
    ck_assert_int_eq(set_hardware(GDB_WATCH_WRITE, UINT64_MAX, 1), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "software", set_up, NULL,
                   software_breakpoint_is_an_int3_until_it_is_removed,
                   where_no_memory_is_there_is_no_breakpoint, two_addresses_of_one_byte_share_it,
                   what_the_guest_wrote_there_stays, readers_do_not_see_breakpoints,
                   writers_do_not_remove_breakpoints, there_is_an_end_to_software_breakpoints,
                   after_a_reset_those_whose_instruction_is_there_come_back);
    unit_case_with(suite, "hardware", set_up, NULL, watchpoints_are_cut_into_aligned_pieces,
                   there_are_four_debug_registers, watchpoints_have_a_length_and_an_end);
}

UNIT_MAIN("gdb_breakpoints", add_tests)
