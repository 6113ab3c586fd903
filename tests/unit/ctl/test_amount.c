/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/amount.h"

#include "tests/lib/unit.h"

static char buf[AMOUNT_MAX];

START_TEST(sizes_have_two_or_three_digits)
{
    ck_assert_str_eq(amount_size(0, buf), "0 B");
    ck_assert_str_eq(amount_size(1023, buf), "1023 B");
    ck_assert_str_eq(amount_size(1024, buf), "1 KiB");
    ck_assert_str_eq(amount_size(1536, buf), "1.5 KiB");
    ck_assert_str_eq(amount_size((1 << 20) - 1, buf), "1.0 MiB");
    ck_assert_str_eq(amount_size(512 << 20, buf), "512 MiB");
    ck_assert_str_eq(amount_size(UINT64_MAX, buf), "16 EiB");
}
END_TEST

START_TEST(rates_are_short)
{
    ck_assert_str_eq(amount_rate(0, buf), "0");
    ck_assert_str_eq(amount_rate(0.04, buf), "0");
    ck_assert_str_eq(amount_rate(0.25, buf), "0.2");
    ck_assert_str_eq(amount_rate(9.94, buf), "9.9");
    ck_assert_str_eq(amount_rate(9.96, buf), "10");
    ck_assert_str_eq(amount_rate(999.4, buf), "999");
    ck_assert_str_eq(amount_rate(999.6, buf), "1.0k");
    ck_assert_str_eq(amount_rate(12345, buf), "12k");
    ck_assert_str_eq(amount_rate(2.5e15, buf), "2500T");
}
END_TEST

START_TEST(spans_have_two_units)
{
    ck_assert_str_eq(amount_span(0, buf), "0s");
    ck_assert_str_eq(amount_span(59, buf), "59s");
    ck_assert_str_eq(amount_span(61, buf), "1m 01s");
    ck_assert_str_eq(amount_span(3600 * 3 + 60 * 7 + 1, buf), "3h 07m");
    ck_assert_str_eq(amount_span(86400 * 5 + 3600 * 2, buf), "5d 02h");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "amount", sizes_have_two_or_three_digits, rates_are_short,
              spans_have_two_units);
}

UNIT_MAIN("amount", add_tests)
