/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: what it shows, when it looks at the host's, and what cannot be set. */
#include "devices/rtc.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"

static struct rtc *rtc;
static time_t host_time;

static time_t now(void)
{
    return host_time;
}

static void set_up(void)
{
    ck_assert_int_eq(setenv("TZ", "EST5", 1), 0); /* which the guest is not to know */
    tzset();
    host_time = 0;
    ck_assert_int_eq(rtc_new(now, &rtc), 0);
}

static void tear_down(void)
{
    rtc_free(rtc);
}

static uint8_t get(uint8_t reg)
{
    rtc_bus_ops.write(rtc, 0, 1, reg);
    return (uint8_t)rtc_bus_ops.read(rtc, 1, 1);
}

static void put(uint8_t reg, uint8_t value)
{
    rtc_bus_ops.write(rtc, 0, 1, reg);
    rtc_bus_ops.write(rtc, 1, 1, value);
}

static const struct {
    time_t time;
    uint8_t shown[9]; /* century, year, month, day, weekday, hour, minute, second */
} moments[] = {
    {0, {0x19, 0x70, 0x01, 0x01, 5, 0x00, 0x00, 0x00}},
    {951782399, {0x20, 0x00, 0x02, 0x28, 2, 0x23, 0x59, 0x59}},
    {951868799, {0x20, 0x00, 0x02, 0x29, 3, 0x23, 0x59, 0x59}}, /* a leap day */
    {1795987713, {0x20, 0x26, 0x11, 0x29, 1, 0x21, 0x28, 0x33}},
    {4102444800, {0x21, 0x00, 0x01, 0x01, 6, 0x00, 0x00, 0x00}},
    {4294967296, {0x21, 0x06, 0x02, 0x07, 1, 0x06, 0x28, 0x16}},
};

START_TEST(the_time_is_shown_in_utc)
{
    static const uint8_t registers[] = {RTC_CENTURY, 9, 8, 7, 6, 4, 2, 0};

    for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
        host_time = moments[i].time;
        (void)get(0);
        for (size_t reg = 0; reg < ARRAY_SIZE(registers); reg++)
            ck_assert_uint_eq(get(registers[reg]), moments[i].shown[reg]);
    }
}
END_TEST

START_TEST(a_driver_finds_digits_in_bcd_and_a_good_battery)
{
    ck_assert_uint_eq(get(10) & 0x80, 0); /* no update is in progress, ever */
    ck_assert_uint_eq(get(10) & 0x70, 0x20);
    ck_assert_uint_eq(get(11), 0x02);
    ck_assert_uint_eq(get(12), 0);
    ck_assert_uint_eq(get(13), 0x80);
}
END_TEST

/* A slow reader must not see the old minute with the new second. */
START_TEST(what_is_read_one_after_the_other_belongs_together)
{
    host_time = 951868799;
    ck_assert_uint_eq(get(10) & 0x80, 0);
    host_time++;
    ck_assert_uint_eq(get(2), 0x59);
    ck_assert_uint_eq(get(8), 0x02);
    ck_assert_uint_eq(get(0), 0x00); /* and here it begins again */
    ck_assert_uint_eq(get(2), 0x00);
    ck_assert_uint_eq(get(8), 0x03);
}
END_TEST

START_TEST(who_reads_in_another_order_sees_no_old_time)
{
    host_time = 951868799;
    (void)get(0);
    host_time += 3600;
    ck_assert_uint_eq(get(4), 0x00);
    host_time -= 7200; /* the host's clock was set back */
    ck_assert_uint_eq(get(4), 0x22);
}
END_TEST

START_TEST(nothing_can_be_set)
{
    host_time = 951868799;
    for (unsigned reg = 0; reg < 0x80; reg++)
        put((uint8_t)reg, 0xff);
    ck_assert_uint_eq(get(0), 0x59);
    ck_assert_uint_eq(get(11), 0x02);
    ck_assert_uint_eq(get(0x40), 0);
}
END_TEST

START_TEST(the_bit_for_nmis_is_not_part_of_the_register)
{
    ck_assert_uint_eq(get(0x80 | 13), 0x80);
    ck_assert_uint_eq((uint8_t)rtc_bus_ops.read(rtc, 0, 1), 0xff);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "rtc", set_up, tear_down, the_time_is_shown_in_utc,
                   a_driver_finds_digits_in_bcd_and_a_good_battery,
                   what_is_read_one_after_the_other_belongs_together,
                   who_reads_in_another_order_sees_no_old_time, nothing_can_be_set,
                   the_bit_for_nmis_is_not_part_of_the_register);
}

UNIT_MAIN("rtc", add_tests)
