/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/table.h"

#include <string.h>

#include "tests/lib/unit.h"

static struct table table;

static void check(unsigned width, const char *expected)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    table_print(&table, width, out);
    fclose(out);
    ck_assert_str_eq(text, expected);
    free(text);
    table_done(&table);
}

static void add_row(const char *first, const char *second, const char *third)
{
    table_add(&table, "%s", first);
    table_add(&table, "%s", second);
    table_add(&table, "%s", third);
}

START_TEST(columns_are_as_wide_as_need_be)
{
    table_init(&table, 3, "NAME >SIZE STATE");
    add_row("a", "1", "on");
    add_row("longer", "123456", "");
    ck_assert_uint_eq(table_nrows(&table), 2);
    check(0, "NAME      SIZE  STATE\n"
             "a            1  on\n"
             "longer  123456\n");
}
END_TEST

START_TEST(characters_count_and_not_bytes)
{
    table_init(&table, 3, "A B C");
    add_row("\xc3\xa4\xe2\x82\xac", "x", "y");
    add_row("abc", "x", "y");
    check(0, "A    B  C\n"
             "\xc3\xa4\xe2\x82\xac   x  y\n"
             "abc  x  y\n");
}
END_TEST

START_TEST(what_a_terminal_would_obey_is_written_out)
{
    table_init(&table, 3, "A B C");
    table_set_heading(&table, 1, "\x1b[2J");
    add_row("\r", "\n", "\xff");
    check(0, "A     \\x1b[2J  C\n"
             "\\x0d  \\x0a     \\xff\n");
}
END_TEST

START_TEST(lines_are_cut_off)
{
    table_init(&table, 3, "");
    add_row("abc", "def", "g\xc3\xa4h");
    check(12, "abc  def  g\xc3\xa4\n");
    table_init(&table, 3, "");
    add_row("abc", "def", "ghi");
    check(4, "abc\n");
}
END_TEST

START_TEST(numbers_are_not_cut)
{
    table_init(&table, 3, "NAME >N >M");
    add_row("a", "1234", "5");
    check(9, "NAME\n"
             "a\n");
    table_init(&table, 3, "NAME >N >M");
    add_row("a", "1234", "5");
    check(10, "NAME     N\n"
              "a     1234\n");
}
END_TEST

START_TEST(without_headings_there_is_no_line_for_them)
{
    table_init(&table, 3, "");
    check(0, "");
    table_init(&table, 3, "");
    add_row("a", "b", "c");
    check(0, "a  b  c\n");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "table", columns_are_as_wide_as_need_be, characters_count_and_not_bytes,
              what_a_terminal_would_obey_is_written_out, lines_are_cut_off, numbers_are_not_cut,
              without_headings_there_is_no_line_for_them);
}

UNIT_MAIN("table", add_tests)
