/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "tests/lib/unit.h"

START_TEST(err_set_returns_code_and_records_message)
{
    struct err err = {0};

    ck_assert_int_eq(err_set(&err, -EINVAL, "--cpus %d: expected 1 to 255", 300), -EINVAL);
    ck_assert_int_eq(err.code, -EINVAL);
    ck_assert_str_eq(err.msg, "--cpus 300: expected 1 to 255");
}
END_TEST

START_TEST(errno_text_is_appended)
{
    struct err err = {0};

    ck_assert_int_eq(err_set_errno(&err, -ENOENT, "%s: cannot open", "disk"), -ENOENT);
    ck_assert_str_eq(err.msg, "disk: cannot open: No such file or directory");
}
END_TEST

START_TEST(missing_err_is_allowed)
{
    ck_assert_int_eq(err_set(NULL, -EIO, "lost"), -EIO);
    ck_assert_int_eq(err_set_errno(NULL, -EIO, "lost"), -EIO);
    err_prefix(NULL, "lost");
}
END_TEST

START_TEST(control_characters_are_replaced)
{
    struct err err = {0};

    err_set(&err, -EINVAL, "%s: no such option", "--a\nb\033[2J\177");
    ck_assert_str_eq(err.msg, "--a?b?[2J?: no such option");
}
END_TEST

START_TEST(utf8_is_kept)
{
    struct err err = {0};

    err_set(&err, -EINVAL, "Gäste.qcow2");
    ck_assert_str_eq(err.msg, "Gäste.qcow2");
}
END_TEST

START_TEST(prefix_goes_in_front_and_keeps_code)
{
    struct err err = {0};

    err_set(&err, -EBUSY, "locked");
    err_prefix(&err, "%s", "root.qcow2");
    ck_assert_str_eq(err.msg, "root.qcow2: locked");
    ck_assert_int_eq(err.code, -EBUSY);
}
END_TEST

START_TEST(own_message_may_be_an_argument)
{
    struct err err = {0};

    err_set(&err, -EBUSY, "locked");
    err_set(&err, -EIO, "again: %s", err.msg);
    ck_assert_str_eq(err.msg, "again: locked");
}
END_TEST

START_TEST(of_long_messages_the_middle_is_left_out)
{
    static const size_t lens[] = {ERR_MSG_MAX, (size_t)2 * ERR_MSG_MAX, 4095, 100000};
    static char text[100000];
    struct err err = {0};

    memset(text, 'x', lens[_i] - 1);
    err_set_errno(&err, -EIO, "%s", text);
    ck_assert_uint_eq(strlen(err.msg), ERR_MSG_MAX - 1);
    err_prefix(&err, "file");
    ck_assert_uint_eq(strlen(err.msg), ERR_MSG_MAX - 1);
    ck_assert_int_eq(strncmp(err.msg, "file: xxx", 9), 0);
    ck_assert_ptr_nonnull(strstr(err.msg, "xxx...xxx"));
    ck_assert_str_eq(strrchr(err.msg, 'x'), "x: Input/output error");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *longer = tcase_create("long");

    unit_case(suite, "err", err_set_returns_code_and_records_message, errno_text_is_appended,
              missing_err_is_allowed, control_characters_are_replaced, utf8_is_kept,
              prefix_goes_in_front_and_keeps_code, own_message_may_be_an_argument);
    tcase_add_loop_test(longer, of_long_messages_the_middle_is_left_out, 0, 4);
    suite_add_tcase(suite, longer);
}

UNIT_MAIN("err", add_tests)
