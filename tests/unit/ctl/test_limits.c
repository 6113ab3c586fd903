/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/limits.h"

#include <errno.h>
#include <string.h>

#include "ctl/answer.h"
#include "tests/lib/unit.h"

static struct err err;

START_TEST(those_of_a_disk_are_kept)
{
    json_t *inserted =
        json_pack("{s:i,s:i,s:s,s:i}", "bps_rd", 5, "bps_rd_max", 7, "file", "x", "iops_max", 0);
    json_t *limits = limits_of(inserted);

    ck_assert_uint_eq(json_object_size(limits), 7);
    ck_assert_uint_eq(answer_number(limits, "bps_rd"), 5);
    ck_assert_uint_eq(answer_number(limits, "bps_rd_max"), 7);
    ck_assert(json_is_integer(json_object_get(limits, "iops_wr")));
    limits_clear(limits);
    ck_assert_uint_eq(json_object_size(limits), 6);
    ck_assert(!limits_is_set(limits, "bps_rd"));
    json_decref(limits);
    json_decref(inserted);
}
END_TEST

START_TEST(one_is_changed)
{
    json_t *limits = limits_of(NULL);

    ck_assert_int_eq(limits_set(limits, "bps=10M", &err), 0);
    ck_assert_int_eq(limits_set(limits, "bps_wr_max_length=3", &err), 0);
    ck_assert_uint_eq(answer_number(limits, "bps"), 10 << 20);
    ck_assert_uint_eq(answer_number(limits, "bps_wr_max_length"), 3);
    ck_assert_int_eq(limits_set(limits, "bps=0", &err), 0);
    ck_assert(!limits_is_set(limits, "bps"));
    json_decref(limits);
}
END_TEST

START_TEST(what_is_no_limit_changes_nothing)
{
    json_t *limits = limits_of(NULL);
    json_t *copy = json_deep_copy(limits);

    for (const char *const *bad =
             (const char *const[]){"", "=", "bps", "bps=", "bps=-1", "bps=1x", "BPS=1", "bp=1",
                                   "bps_=1", "bps=9223372036854775808", NULL};
         *bad; bad++) {
        ck_assert_int_eq(limits_set(limits, *bad, &err), -EINVAL);
        ck_assert(json_equal(limits, copy));
    }
    json_decref(copy);
    json_decref(limits);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "limits", those_of_a_disk_are_kept, one_is_changed,
              what_is_no_limit_changes_nothing);
}

UNIT_MAIN("limits", add_tests)
