/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <string.h>

#include "tests/lib/unit.h"

static void check(const char *text, const char *expected)
{
    char *escaped = text_escaped(text, false);

    ck_assert_str_eq(escaped, expected);
    free(escaped);
}

START_TEST(what_a_terminal_would_obey_is_written_out)
{
    check("\x1b]0;owned\a\x1b[2J\r\b\x7f\n", "\\x1b]0;owned\\x07\\x1b[2J\\x0d\\x08\\x7f\\x0a");
    check("\xc2\x9b"
          "31m",
          "\\xc2\\x9b31m");
}
END_TEST

START_TEST(letters_of_all_lengths_stay)
{
    check("a\xc3\xa4\xe2\x82\xac\xed\x9f\xbf\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf",
          "a\xc3\xa4\xe2\x82\xac\xed\x9f\xbf\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");
    check("", "");
}
END_TEST

START_TEST(what_is_no_utf8_is_written_out)
{
    check("\xff", "\\xff");
    check("\xc3", "\\xc3");
    check("\xe2\x82", "\\xe2\\x82");
    check("\xc0\x9b", "\\xc0\\x9b");
    check("\xe0\x82\x9b", "\\xe0\\x82\\x9b");
    check("\xf0\x80\x82\x9b", "\\xf0\\x80\\x82\\x9b");
    check("\xed\xa0\x80", "\\xed\\xa0\\x80");
    check("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
}
END_TEST

static void check_replaced(const char *text, const char *expected)
{
    char copy[32];

    snprintf(copy, sizeof(copy), "%s", text);
    text_replace_non_utf8(copy);
    ck_assert_str_eq(copy, expected);
}

START_TEST(only_what_is_no_utf8_is_replaced)
{
    check_replaced("a\xff\xc3\xa4\n", "a?\xc3\xa4\n");
    check_replaced("\xe2\x82\xac\xe2\x82", "\xe2\x82\xac??");
    check_replaced("\xf0\x9f\x98\x80\xf0", "\xf0\x9f\x98\x80?");
    check_replaced("\xed\xa0\x80", "???");
    check_replaced("\xc2\x9b", "\xc2\x9b");
    check_replaced("", "");
}
END_TEST

START_TEST(line_ends_stay_where_they_are_wanted)
{
    char *escaped = text_escaped("a\nb\r", true);

    ck_assert_str_eq(escaped, "a\nb\\x0d");
    free(escaped);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "text", what_a_terminal_would_obey_is_written_out, letters_of_all_lengths_stay,
              what_is_no_utf8_is_written_out, only_what_is_no_utf8_is_replaced,
              line_ends_stay_where_they_are_wanted);
}

UNIT_MAIN("text", add_tests)
