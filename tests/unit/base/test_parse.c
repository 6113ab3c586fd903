/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "tests/lib/unit.h"

#define UNTOUCHED 0x5a5a5a5aull

struct number_case {
    const char *text;
    int result;
    uint64_t value;
};

static const struct number_case u64_cases[] = {
    {"0", 0, 0},
    {"1", 0, 1},
    {"007", 0, 7},
    {"18446744073709551615", 0, UINT64_MAX},
    {"0x0", 0, 0},
    {"0X1f", 0, 0x1f},
    {"0xFFFFffffFFFFffff", 0, UINT64_MAX},
    {"0x000000000000000000001", 0, 1},
    {"", -EINVAL, 0},
    {"0x", -EINVAL, 0},
    {"x", -EINVAL, 0},
    {" 1", -EINVAL, 0},
    {"1 ", -EINVAL, 0},
    {"+1", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"1.5", -EINVAL, 0},
    {"12a", -EINVAL, 0},
    {"1K", -EINVAL, 0},
    {"0x1g", -EINVAL, 0},
    {"99999999999999999999999z", -EINVAL, 0},
    {"18446744073709551616", -ERANGE, 0},
    {"99999999999999999999999", -ERANGE, 0},
    {"0x10000000000000000", -ERANGE, 0},
};

static const struct number_case size_cases[] = {
    {"0", 0, 0},
    {"512", 0, 512},
    {"1k", 0, KIB},
    {"1K", 0, KIB},
    {"3m", 0, 3 * MIB},
    {"512M", 0, 512 * MIB},
    {"64G", 0, 64 * GIB},
    {"2g", 0, 2 * GIB},
    {"1t", 0, TIB},
    {"0x10K", 0, 16 * KIB},
    {"16777215T", 0, 16777215 * TIB},
    {"16777216T", -ERANGE, 0},
    {"18446744073709551616", -ERANGE, 0},
    {"18446744073709551616K", -ERANGE, 0},
    {"", -EINVAL, 0},
    {"K", -EINVAL, 0},
    {"1KB", -EINVAL, 0},
    {"1KK", -EINVAL, 0},
    {"1P", -EINVAL, 0},
    {"1 M", -EINVAL, 0},
    {"-1M", -EINVAL, 0},
    {"1.5G", -EINVAL, 0},
    {"99999999999999999999x", -EINVAL, 0},
};

static void check_table(const struct number_case *cases, size_t n,
                        int (*parse)(const char *text, uint64_t *ret_value))
{
    for (size_t i = 0; i < n; i++) {
        const struct number_case *c = &cases[i];
        uint64_t value = UNTOUCHED;

        ck_assert_msg(parse(c->text, &value) == c->result, "\"%s\": wrong result", c->text);
        ck_assert_msg(value == (c->result == 0 ? c->value : UNTOUCHED), "\"%s\": wrong value %ju",
                      c->text, (uintmax_t)value);
    }
}

START_TEST(u64_takes_whole_unsigned_numbers_only)
{
    check_table(u64_cases, ARRAY_SIZE(u64_cases), parse_u64);
}
END_TEST

START_TEST(size_takes_one_suffix)
{
    check_table(size_cases, ARRAY_SIZE(size_cases), parse_size);
}
END_TEST

START_TEST(on_off_takes_nothing_else)
{
    static const char *const bad[] = {"", "On", "ON", "yes", "1", "true", "on ", "offf"};
    bool value = false;

    ck_assert_int_eq(parse_on_off("on", &value), 0);
    ck_assert(value);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(parse_on_off(bad[i], &value), -EINVAL);
    ck_assert(value);
    ck_assert_int_eq(parse_on_off("off", &value), 0);
    ck_assert(!value);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "parse", u64_takes_whole_unsigned_numbers_only, size_takes_one_suffix,
              on_off_takes_nothing_else);
}

UNIT_MAIN("parse", add_tests)
