/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The timeline of --boot-trace, of whole runs of the program.
 */
#include <jansson.h>
#include <string.h>

#include "tests/lib/guest/guest_test.h"
#include "vmm/config/config.h"

static struct guest guest;
static struct vm vm;

static void set_up(void)
{
    guest_init(&guest);
}

static void tear_down(void)
{
    vm_done(&vm);
    guest_done(&guest);
}

/* Run the guest to its end with a trace in the file `trace`. */
static void run(const char *cpus, int code)
{
    const char *kernel = scratch_path("kernel");
    const char *const args[] = {"--kernel", kernel, "--memory",     GUEST_MEMORY,
                                "--cpus",   cpus,   "--boot-trace", scratch_path("trace"),
                                NULL};

    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
    assert_exit_code(&vm, vm_wait(&vm), code);
}

static json_t *load_events(json_t **ret_root)
{
    json_error_t error;

    *ret_root = json_load_file(scratch_path("trace"), 0, &error);
    ck_assert_msg(*ret_root, "line %d: %s", error.line, error.text);
    return json_object_get(*ret_root, "traceEvents");
}

static bool is_named(const json_t *event, const char *name)
{
    return strcmp(json_string_value(json_object_get(event, "name")), name) == 0;
}

/* These begin one after the other; others may be in between. */
static void expect_order(const json_t *events, const char *const names[])
{
    size_t at = 0;

    for (; *names; names++, at++) {
        while (at < json_array_size(events) && !is_named(json_array_get(events, at), *names))
            at++;
        ck_assert_msg(at < json_array_size(events), "no '%s' where it is expected", *names);
    }
}

static unsigned count(const json_t *events, const char *name)
{
    unsigned n = 0;

    for (size_t i = 0; i < json_array_size(events); i++)
        n += is_named(json_array_get(events, i), name);
    return n;
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(phases_come_in_their_order)
{
    static const char *const names[] = {
        "read the options",  "open KVM",           "open the kernel",      "open disks",
        "make the consoles", "map memory",         "load the guest",       "start the consoles",
        "first KVM_RUN",     "first output byte",  "the guest powers off", "stop vCPUs",
        "free the machine",  "close the consoles", "close disks",          NULL};
    json_t *root, *events;

    guest_put_text(&guest, "hello");
    guest_power_off(&guest);
    run("1", EXIT_POWER_OFF);
    events = load_events(&root);
    expect_order(events, names);
    ck_assert_uint_eq(count(events, "first output byte"), 1);
    json_decref(root);
}
END_TEST

START_TEST(every_vcpu_is_in_it)
{
    json_t *root, *events;

    guest_power_off(&guest);
    run("3", EXIT_POWER_OFF);
    events = load_events(&root);
    ck_assert_uint_eq(count(events, "first KVM_RUN"), 3);
    ck_assert_uint_eq(count(events, "run the guest"), 3);
    json_decref(root);
}
END_TEST

START_TEST(a_trace_that_cannot_be_written_is_told)
{
    const char *kernel = scratch_path("kernel");
    const char *const args[] = {"--kernel",     kernel,      "--memory", GUEST_MEMORY,
                                "--boot-trace", "/dev/full", NULL};

    guest_power_off(&guest);
    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
    assert_exit_code(&vm, vm_wait(&vm), EXIT_VMM);
    ck_assert_str_eq(vm_errors(&vm), "minivmm: boot trace: /dev/full: cannot write: "
                                     "No space left on device\n");
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("boot trace");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, phases_come_in_their_order);
    tcase_add_test(tcase, every_vcpu_is_in_it);
    tcase_add_test(tcase, a_trace_that_cannot_be_written_is_told);
    suite_add_tcase(suite, tcase);
}

GUEST_TEST_MAIN("guest boot trace", add_tests)
