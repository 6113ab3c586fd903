/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/i8042.h"
#include "tests/lib/unit.h"

#define DATA 0x60
#define COMMAND 0x64

static unsigned resets;

static void count_request(struct power_sink *sink, enum power_request what)
{
    ck_assert_int_eq(what, POWER_REQUEST_RESET);
    resets++;
}

static struct power_sink sink = {.request = count_request};
static struct bus bus;

static void setup(void)
{
    const struct bus_range data = {.base = DATA, .len = 1, .ops = &i8042_data_ops, .dev = &sink};
    const struct bus_range command = {
        .base = COMMAND, .len = 1, .ops = &i8042_command_ops, .dev = &sink};

    ck_assert_int_eq(bus_add(&bus, &data), 0);
    ck_assert_int_eq(bus_add(&bus, &command), 0);
}

static uint8_t in(uint64_t port)
{
    uint8_t value;

    bus_read(&bus, port, &value, 1);
    return value;
}

static void out(uint64_t port, uint8_t value)
{
    bus_write(&bus, port, &value, 1);
}

START_TEST(only_the_reset_command_resets)
{
    for (unsigned value = 0; value <= 0xff; value++) {
        out(DATA, (uint8_t)value);
        if (value != I8042_COMMAND_RESET)
            out(COMMAND, (uint8_t)value);
    }
    ck_assert_uint_eq(resets, 0);
    out(COMMAND, I8042_COMMAND_RESET);
    ck_assert_uint_eq(resets, 1);
}
END_TEST

/* What Linux does: it flushes up to 16 bytes, and takes a buffer that stays full for no device. */
START_TEST(flush_finds_no_controller)
{
    for (int i = 0; i < 17; i++) {
        ck_assert_uint_eq(in(COMMAND)&I8042_STATUS_OUTPUT_FULL, I8042_STATUS_OUTPUT_FULL);
        (void)in(DATA);
    }
}
END_TEST

START_TEST(input_buffer_is_always_free)
{
    out(COMMAND, 0xaa);
    ck_assert_uint_eq(in(COMMAND)&I8042_STATUS_INPUT_FULL, 0);
    out(DATA, 0xed);
    ck_assert_uint_eq(in(COMMAND)&I8042_STATUS_INPUT_FULL, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "i8042", setup, NULL, only_the_reset_command_resets,
                   flush_finds_no_controller, input_buffer_is_always_free);
}

UNIT_MAIN("i8042", add_tests)
