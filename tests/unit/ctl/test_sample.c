/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM did in between, and how it looks.
 */
#include "ctl/sample.h"

#include <string.h>

#include "base/clock.h"
#include "ctl/top_view.h"
#include "tests/lib/unit.h"

static struct sample before, after;

static json_t *json(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &error);

    ck_assert_msg(value != NULL, "%s: %s", text, error.text);
    return value;
}

static void set_up(void)
{
    before = (struct sample){.time_ns = NS_PER_S};
    after = (struct sample){.time_ns = 3 * NS_PER_S};
}

static void tear_down(void)
{
    sample_done(&before);
    sample_done(&after);
}

/* A rate, by the path to it: "vcpus 0 reasons io". */
static double rate(const json_t *rates, const char *path)
{
    char copy[128];

    snprintf(copy, sizeof(copy), "%s", path);
    for (const char *step = strtok(copy, " "); step; step = strtok(NULL, " "))
        rates = json_is_array(rates) ? json_array_get(rates, strtoul(step, NULL, 10))
                                     : json_object_get(rates, step);
    ck_assert_msg(json_is_number(rates), "%s", path);
    return json_number_value(rates);
}

#define check_rate(path, expected) ck_assert_double_eq_tol(rate(rates, path), expected, 1e-9)

START_TEST(counters_become_rates)
{
    json_t *rates;

    before.cpu_ns = NS_PER_S;
    after.cpu_ns = 4 * NS_PER_S;
    before.vcpus = json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"io_exits\",\"value\":10},"
                        "{\"name\":\"exits\",\"value\":100}]}]");
    after.vcpus =
        json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"io_exits\",\"value\":30},"
             "{\"name\":\"exits\",\"value\":200},{\"name\":\"exits-hlt\",\"value\":8}]}]");
    before.disks = json("[{\"device\":\"d\",\"stats\":{\"rd_bytes\":4096}}]");
    after.disks = json("[{\"device\":\"d\",\"stats\":{\"rd_bytes\":8192,\"wr_operations\":4}}]");
    rates = sample_rates(&before, &after);
    check_rate("seconds", 2);
    check_rate("cpu", 1.5);
    check_rate("vcpus 0 exits", 50);
    check_rate("vcpus 0 reasons io", 10);
    check_rate("vcpus 0 reasons hlt", 4);
    check_rate("disks 0 rd_bytes", 2048);
    check_rate("disks 0 wr_operations", 2);
    check_rate("disks 0 flush_operations", 0);
    json_decref(rates);
}
END_TEST

/* A guest that was reset counts from 0 again. */
START_TEST(counter_that_goes_back_began_again)
{
    json_t *rates;

    before.vcpus =
        json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"io_exits\",\"value\":1000}]}]");
    after.vcpus = json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"io_exits\",\"value\":6}]}]");
    rates = sample_rates(&before, &after);
    check_rate("vcpus 0 exits", 3);
    json_decref(rates);
}
END_TEST

START_TEST(no_time_in_between_is_no_division)
{
    json_t *rates;

    after.time_ns = before.time_ns;
    after.cpu_ns = 5;
    rates = sample_rates(&before, &after);
    check_rate("cpu", 0);
    json_decref(rates);
}
END_TEST

static char *view(const json_t *rates, unsigned width, unsigned height)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    top_view_print("vm", rates, width, height, out);
    fclose(out);
    return text;
}

static unsigned count_lines(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* Rates of a machine with CPUs and disks that do nothing. */
static json_t *idle_machine(unsigned ncpus, unsigned ndisks)
{
    json_t *rates = json("{\"state\":\"running\",\"vcpus\":[],\"disks\":[]}");

    for (unsigned i = 0; i < ncpus; i++)
        json_array_append_new(json_object_get(rates, "vcpus"),
                              json_pack("{s:i,s:f,s:{s:f,s:f}}", "cpu", (int)i, "exits", 3.0,
                                        "reasons", "io", 1.0, "hlt", 2.0));
    for (unsigned i = 0; i < ndisks; i++)
        json_array_append_new(json_object_get(rates, "disks"), json_pack("{s:s}", "device", "vda"));
    return rates;
}

START_TEST(most_frequent_exits_come_first)
{
    json_t *rates = idle_machine(2, 0);
    char *text = view(rates, 0, 0);

    ck_assert_ptr_nonnull(strstr(text, "CPU  EXITS/s  hlt   io\n  0      3.0  2.0  1.0\n"));
    free(text);
    json_decref(rates);
}
END_TEST

START_TEST(page_is_no_higher_than_the_terminal)
{
    json_t *rates = idle_machine(64, 17);

    for (unsigned height = 9; height < 100; height++) {
        char *text = view(rates, 80, height);

        ck_assert_msg(count_lines(text) <= height, "%u lines of %u:\n%s", count_lines(text), height,
                      text);
        if (height < 86)
            ck_assert_ptr_nonnull(strstr(text, "rows more"));
        free(text);
    }
    json_decref(rates);
}
END_TEST

START_TEST(what_does_not_fit_is_counted)
{
    json_t *rates = idle_machine(10, 2);
    char *text = view(rates, 80, 12);

    ck_assert_ptr_nonnull(strstr(text, "7 rows more: the terminal is small\n"));
    free(text);
    text = view(rates, 80, 18);
    ck_assert_ptr_null(strstr(text, "rows more"));
    free(text);
    json_decref(rates);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "sample", set_up, tear_down, counters_become_rates,
                   counter_that_goes_back_began_again, no_time_in_between_is_no_division,
                   most_frequent_exits_come_first, page_is_no_higher_than_the_terminal,
                   what_does_not_fit_is_counted);
}

UNIT_MAIN("sample", add_tests)
