/* SPDX-License-Identifier: Apache-2.0 */
/* pvpanic: what a guest's kernel writes when it panics. */
#include "base/bytes.h"
#include "devices/pvpanic.h"
#include "tests/lib/unit.h"

static unsigned nevents;
static unsigned events;

static void on_panicked(struct pvpanic *pvpanic, unsigned event)
{
    nevents++;
    events |= event;
}

static struct pvpanic pvpanic;

static void set_up(void)
{
    pvpanic = (struct pvpanic){.panicked = on_panicked};
    nevents = 0;
    events = 0;
}

static void write_port(uint64_t value)
{
    pvpanic_bus_ops.write(&pvpanic, 0, 1, value);
}

START_TEST(guest_reads_what_it_may_write)
{
    ck_assert_uint_eq(pvpanic_bus_ops.read(&pvpanic, 0, 1), 3);
    ck_assert_uint_eq(nevents, 0);
}
END_TEST

START_TEST(each_event_is_told_once)
{
    for (unsigned i = 0; i < 1000; i++)
        write_port(PVPANIC_CRASH_LOADED);
    ck_assert_uint_eq(nevents, 1);
    ck_assert_uint_eq(events, PVPANIC_CRASH_LOADED);
    for (unsigned i = 0; i < 1000; i++)
        write_port(PVPANIC_PANICKED);
    ck_assert_uint_eq(nevents, 2);
    ck_assert_uint_eq(events, PVPANIC_EVENTS);
}
END_TEST

START_TEST(both_at_once_are_two_events)
{
    write_port(0xff);
    ck_assert_uint_eq(nevents, 2);
    ck_assert_uint_eq(events, PVPANIC_EVENTS);
}
END_TEST

START_TEST(other_bits_are_ignored)
{
    write_port(0);
    write_port(0xfffffffffffffffc);
    ck_assert_uint_eq(nevents, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "pvpanic", set_up, NULL, guest_reads_what_it_may_write,
                   each_event_is_told_once, both_at_once_are_two_events, other_bits_are_ignored);
}

UNIT_MAIN("pvpanic", add_tests)
