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

/* minivmm counts what comes to it, and KVM everything. */
START_TEST(providers_tell_of_the_same_cpu)
{
    json_t *rates;

    before.vcpus =
        json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"exits-port-read\",\"value\":10}]},"
             "{\"qom-path\":\"a\",\"stats\":[{\"name\":\"exits\",\"value\":100}]}]");
    after.vcpus =
        json("[{\"qom-path\":\"a\",\"stats\":[{\"name\":\"exits-port-read\",\"value\":20}]},"
             "{\"qom-path\":\"a\",\"stats\":[{\"name\":\"exits\",\"value\":200}]}]");
    rates = sample_rates(&before, &after);
    ck_assert_uint_eq(json_array_size(json_object_get(rates, "vcpus")), 1);
    check_rate("vcpus 0 exits", 50);
    check_rate("vcpus 0 reasons port-read", 5);
    json_decref(rates);
}
END_TEST

/* As QEMU tells of those that were made with -blockdev. */
START_TEST(disks_without_a_device_have_other_names)
{
    json_t *rates;

    before.disks = json("[{\"device\":\"\",\"qdev\":\"a\",\"stats\":{\"rd_bytes\":10}},"
                        "{\"device\":\"\",\"qdev\":\"b\",\"stats\":{\"rd_bytes\":100}}]");
    after.disks = json("[{\"device\":\"\",\"qdev\":\"a\",\"stats\":{\"rd_bytes\":20}},"
                       "{\"device\":\"\",\"qdev\":\"b\",\"stats\":{\"rd_bytes\":200}}]");
    rates = sample_rates(&before, &after);
    check_rate("disks 0 rd_bytes", 5);
    check_rate("disks 1 rd_bytes", 50);
    json_decref(rates);
}
END_TEST

/* Elements with a name of their own under `key`, which has a number from `first` on. */
static json_t *many(const char *key, unsigned first, unsigned n)
{
    json_t *array = json_array();

    for (unsigned i = first; i < first + n; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%u_exits", i);
        json_array_append_new(array, json_pack("{s:s,s:i}", key, name, "value", 1));
    }
    return array;
}

static char *view(const json_t *rates, unsigned width, unsigned height)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    top_view_print("vm", rates, width, height, out);
    fclose(out);
    return text;
}

/* All of them others than before: what is looked for is found nowhere. */
START_TEST(what_a_vm_says_too_much_is_left_out)
{
    static const unsigned n = 100000;
    const uint64_t begin = monotonic_ns();
    json_t *rates;
    json_t *stats;
    char *text;

    before.vcpus = many("qom-path", 0, n);
    after.vcpus = many("qom-path", n, n);
    stats = many("name", 0, n);
    json_object_set_new(json_array_get(after.vcpus, 0), "stats", stats);
    json_object_set(json_array_get(before.vcpus, 0), "stats", stats);
    before.disks = many("device", 0, n);
    after.disks = many("device", n, n);
    rates = sample_rates(&before, &after);
    check_rate("left-out", 3 * n - 2 * SAMPLE_ROWS_MAX - SAMPLE_REASONS_MAX);
    ck_assert_uint_eq(json_array_size(json_object_get(rates, "vcpus")), SAMPLE_ROWS_MAX);
    ck_assert_uint_eq(json_array_size(json_object_get(rates, "disks")), SAMPLE_ROWS_MAX);
    text = view(rates, 80, 24);
    ck_assert_ptr_nonnull(strstr(text, "disks more are left out\n"));
    ck_assert_uint_lt(monotonic_ns() - begin, 20 * NS_PER_S);
    free(text);
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

/* Another CPU does more, and exits of one kind do not occur. */
START_TEST(busiest_rows_come_first_and_columns_without_any_not_at_all)
{
    json_t *rates = json("{\"vcpus\":["
                         "{\"cpu\":0,\"exits\":1.0,\"reasons\":{\"io\":1.0,\"nmi\":0.0}},"
                         "{\"cpu\":1,\"exits\":0.0,\"reasons\":{\"io\":0.0,\"nmi\":0.0}},"
                         "{\"cpu\":2,\"exits\":9.0,\"reasons\":{\"io\":9.0,\"nmi\":0.0}}],"
                         "\"disks\":[{\"device\":\"vda\"},"
                         "{\"device\":\"vdb\",\"wr_operations\":1.0}]}");
    char *text = view(rates, 0, 0);

    ck_assert_ptr_nonnull(strstr(
        text, "CPU  EXITS/s   io\n  2      9.0  9.0\n  0      1.0  1.0\n  1        0    0\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nvdb "));
    ck_assert(strstr(text, "\nvdb ") < strstr(text, "\nvda "));
    free(text);
    text = view(rates, 80, 10);
    ck_assert_ptr_nonnull(strstr(text, "\n  2      9.0"));
    ck_assert_ptr_null(strstr(text, "\n  1 "));
    ck_assert_ptr_nonnull(strstr(text, "\ncut off: 2 rows\n"));
    free(text);
    json_decref(rates);
}
END_TEST

START_TEST(columns_without_room_are_counted)
{
    json_t *rates = json("{\"vcpus\":[{\"cpu\":0,\"exits\":3.0,\"reasons\":{"
                         "\"a_reason_with_a_name_of_30_chars\":2.0,\"b\":1.0,\"c\":1.0}}]}");
    char *text = view(rates, 40, 24);

    ck_assert_ptr_nonnull(strstr(text, "cut off: 3 kinds of exits\n"));
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
            ck_assert_ptr_nonnull(strstr(text, "cut off: "));
        free(text);
        if (height == 50)
            json_object_set_new(rates, "left-out", json_integer(3));
    }
    json_decref(rates);
}
END_TEST

START_TEST(what_does_not_fit_is_counted)
{
    json_t *rates = idle_machine(10, 2);
    char *text = view(rates, 80, 12);

    ck_assert_ptr_nonnull(strstr(text, "\ncut off: 7 rows\n"));
    free(text);
    text = view(rates, 80, 18);
    ck_assert_ptr_null(strstr(text, "cut off: "));
    free(text);
    json_decref(rates);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "sample", set_up, tear_down, counters_become_rates,
                   providers_tell_of_the_same_cpu, disks_without_a_device_have_other_names,
                   what_a_vm_says_too_much_is_left_out, counter_that_goes_back_began_again,
                   no_time_in_between_is_no_division, most_frequent_exits_come_first,
                   busiest_rows_come_first_and_columns_without_any_not_at_all,
                   columns_without_room_are_counted, page_is_no_higher_than_the_terminal,
                   what_does_not_fit_is_counted);
}

UNIT_MAIN("sample", add_tests)
