/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of a VM's control socket, and what becomes of the guest.
 */
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/vm_names.h"
#include "block/create.h"
#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"
#include "tests/lib/guest/guest_disk.h"
#include "tests/lib/guest/guest_test.h"
#include "tests/lib/guest/qmp_client.h"
#include "vmm/config/config.h"
#include "vmm/process/ending_rules.h"

#define VECTOR 0x40u

/* Long enough for a guest that runs to do something. */
#define A_WHILE_US 100000u

static struct guest guest;
static struct vm vm;
static struct qmp_client client, other;
static char socket_path[200];

/* Write the guest and start it with a control socket and `extra` arguments. */
static void start(const char *const extra[])
{
    const char *kernel = scratch_path("kernel");
    char address[sizeof(socket_path) + 16];
    const char *args[VM_ARGS_MAX] = {"--kernel",   kernel,  "--memory",
                                     GUEST_MEMORY, "--qmp", address};
    size_t n = 6;

    snprintf(socket_path, sizeof(socket_path), "%s", scratch_path("qmp"));
    snprintf(address, sizeof(address), "unix:%s,server", socket_path);
    guest_write_kernel(&guest, kernel);
    while (extra && *extra)
        args[n++] = *extra++;
    vm_start(&vm, args);
}

static void start_and_connect(const char *const extra[])
{
    start(extra);
    qmp_client_open(&client, socket_path);
}

static void expect_end(int code)
{
    assert_exit_code(&vm, vm_wait(&vm), code);
}

static void set_up(void)
{
    client.fd = -1;
    other.fd = -1;
    guest_init(&guest);
}

static void tear_down(void)
{
    qmp_client_close(&client);
    qmp_client_close(&other);
    vm_done(&vm);
    guest_done(&guest);
}

/* The guest waits for a byte on the serial port. */
static void wait_for_serial(void)
{
    guest_op(&guest, GUEST_WAIT_IN8, X86_PORT_COM1 + 5, 1, 0); /* line status: data ready */
    guest_op(&guest, GUEST_IN8, X86_PORT_COM1, 0, 0);
}

static void wait_for_button(void)
{
    guest_op(&guest, GUEST_WAIT_IRQ, 1, 0, 0);
    guest_op(&guest, GUEST_IN8, X86_PORT_ACPI_PM + ACPI_PM_GED_EVENTS, 0, 0);
    guest_put_text(&guest, "asked");
}

/* A guest that does nothing by itself. */
static void make_idle(void)
{
    guest_put_text(&guest, "ready");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
}

/* A guest that powers off when it is asked to. */
static void make_obedient(void)
{
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_put_text(&guest, "ready");
    wait_for_button();
    guest_power_off(&guest);
}

static void expect_status(struct qmp_client *of, const char *expected)
{
    char *status = qmp_client_text(of, "query-status", "status");

    ck_assert_str_eq(status, expected);
    free(status);
}

/* An event that tells how a guest ended. */
static void expect_event(struct qmp_client *of, const char *name, const char *reason,
                         bool guest_did)
{
    json_t *data = qmp_client_event(of, name);

    ck_assert_str_eq(json_string_value(json_object_get(data, "reason")), reason);
    ck_assert_int_eq(json_is_true(json_object_get(data, "guest")), guest_did);
    json_decref(data);
}

static void expect_plain_event(struct qmp_client *of, const char *name)
{
    json_t *data = qmp_client_event(of, name);

    ck_assert(json_is_null(data));
    json_decref(data);
}

/* No message that came so far is this event. */
static void expect_no_event(struct qmp_client *of, const char *name)
{
    json_t *event;
    size_t i;

    expect_status(of, "running");
    json_array_foreach(of->events, i, event)
        ck_assert_str_ne(json_string_value(json_object_get(event, "event")), name);
}

static void expect_error(struct qmp_client *of, const char *command, const char *arguments,
                         const char *class)
{
    json_t *error = qmp_client_ask_wrong(of, command, arguments);

    ck_assert_str_eq(json_string_value(json_object_get(error, "class")), class);
    ck_assert_str_ne(json_string_value(json_object_get(error, "desc")), "");
    json_decref(error);
}

static void signal_vm(int signo)
{
    ck_assert_int_eq(kill(vm.pid, signo), 0);
}

/* ---- power ----------------------------------------------------------------------------------- */

START_TEST(guest_is_asked_to_power_off_and_all_clients_hear_of_it)
{
    struct stat st;

    make_obedient();
    start_and_connect(NULL);
    qmp_client_open(&other, socket_path);
    ck_assert(vm_wait_output(&vm, "ready"));
    ck_assert_int_eq(stat(socket_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);

    qmp_client_do(&client, "system_powerdown", NULL);
    ck_assert(vm_wait_output(&vm, "asked"));
    expect_plain_event(&other, "POWERDOWN");
    expect_event(&other, "SHUTDOWN", "guest-shutdown", true);
    expect_plain_event(&client, "POWERDOWN");
    expect_event(&client, "SHUTDOWN", "guest-shutdown", true);
    qmp_client_end(&client);
    qmp_client_end(&other);
    expect_end(EXIT_POWER_OFF);
    ck_assert_int_eq(stat(socket_path, &st), -1);
}
END_TEST

START_TEST(guest_without_a_button_is_told_of)
{
    const char *const extra[] = {"--no-acpi", NULL};

    make_idle();
    start_and_connect(extra);
    expect_error(&client, "system_powerdown", NULL, "GenericError");
    expect_no_event(&client, "POWERDOWN");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* Whatever --on-reboot says: it was not the guest that rebooted. */
START_TEST(client_resets_the_guest_and_stays_connected)
{
    int before, after;
    json_t *cpus;
    char path[64];

    guest_put_text(&guest, "life");
    wait_for_serial();
    guest_power_off(&guest);
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "life"));
    cpus = qmp_client_ask(&client, "query-cpus-fast", NULL);
    before = (int)json_integer_value(json_object_get(json_array_get(cpus, 0), "thread-id"));
    json_decref(cpus);
    snprintf(path, sizeof(path), "/proc/%d/task/%d", vm.pid, before);
    ck_assert_int_eq(access(path, F_OK), 0);

    qmp_client_do(&client, "system_reset", NULL);
    expect_event(&client, "RESET", "host-qmp-system-reset", false);
    ck_assert(vm_wait_output(&vm, "lifelife"));
    cpus = qmp_client_ask(&client, "query-cpus-fast", NULL);
    after = (int)json_integer_value(json_object_get(json_array_get(cpus, 0), "thread-id"));
    json_decref(cpus);
    ck_assert_int_ne(before, after);

    vm_send(&vm, "g", 1);
    expect_event(&client, "SHUTDOWN", "guest-shutdown", true);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

/* Far more often than a guest may reset itself without being slowed down. */
/* Descriptors are what the host denies the next guest. */
START_TEST(end_is_told_when_the_next_guest_cannot_start)
{
    const struct rlimit few = {.rlim_cur = 8, .rlim_max = 8};
    json_t *data;
    int guest_did = 1;

    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start_and_connect(NULL);
    json_decref(qmp_client_ask(&client, "query-status", NULL));
    ck_assert_int_eq(prlimit(vm.pid, RLIMIT_NOFILE, &few, NULL), 0);
    qmp_client_do(&client, "system_reset", NULL);
    json_decref(qmp_client_event(&client, "RESET"));
    data = qmp_client_event(&client, "SHUTDOWN");
    ck_assert_int_eq(json_unpack(data, "{s:b}", "guest", &guest_did), 0);
    ck_assert(!guest_did);
    json_decref(data);
    expect_end(EXIT_SETUP);
}
END_TEST

START_TEST(client_resets_as_often_as_it_likes)
{
    make_idle();
    start_and_connect(NULL);
    for (unsigned i = 0; i < 20; i++) {
        qmp_client_do(&client, "system_reset", NULL);
        expect_event(&client, "RESET", "host-qmp-system-reset", false);
    }
    expect_status(&client, "running");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
    ck_assert_str_eq(vm_errors(&vm), "");
}
END_TEST

START_TEST(reset_of_the_guest_itself_is_told)
{
    const char *const restart[] = {"--on-reboot", "restart", NULL};

    guest_put_text(&guest, "life");
    wait_for_serial();
    guest_reset_acpi(&guest);
    start_and_connect(_i == 0 ? restart : NULL);
    ck_assert(vm_wait_output(&vm, "life"));
    vm_send(&vm, "g", 1);
    if (_i == 0) {
        expect_event(&client, "RESET", "guest-reset", true);
        ck_assert(vm_wait_output(&vm, "lifelife"));
        qmp_client_do(&client, "quit", NULL);
        expect_event(&client, "SHUTDOWN", "host-qmp-quit", false);
        expect_end(EXIT_KILLED);
    } else {
        expect_event(&client, "SHUTDOWN", "guest-reset", true);
        expect_end(EXIT_REBOOT);
    }
}
END_TEST

/* As soon as the socket is there: a kernel would be booting. */
START_TEST(client_ends_a_guest_that_has_just_begun)
{
    make_idle();
    start_and_connect(NULL);
    qmp_client_do(&client, "quit", NULL);
    expect_event(&client, "SHUTDOWN", "host-qmp-quit", false);
    qmp_client_end(&client);
    expect_end(EXIT_KILLED);
    ck_assert_int_eq(access(socket_path, F_OK), -1);
}
END_TEST

/* A guest that waits for its next start has no vCPU; the VM is there all the same. */
START_TEST(client_asks_between_two_guests)
{
    const char *const restart[] = {"--on-reboot", "restart", NULL};

    guest_op(&guest, GUEST_TRIPLE_FAULT, 0, 0, 0);
    start_and_connect(restart);
    ck_assert(vm_wait_error(&vm, "starts again in 2 s"));
    expect_status(&client, "shutdown");
    expect_error(&client, "stop", NULL, "GenericError");
    expect_error(&client, "cont", NULL, "GenericError");
    expect_error(&client, "system_powerdown", NULL, "GenericError");
    if (_i == 0) {
        qmp_client_do(&client, "quit", NULL);
        expect_event(&client, "SHUTDOWN", "host-qmp-quit", false);
    } else {
        signal_vm(SIGTERM);
        expect_event(&client, "SHUTDOWN", "host-signal", false);
    }
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- pauses ---------------------------------------------------------------------------------- */

static void make_echo(void)
{
    size_t again;

    guest_put_text(&guest, "ready");
    again = guest.nops;
    wait_for_serial();
    guest_op(&guest, GUEST_PUT_ACC, 1, 0, 0);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
}

START_TEST(paused_guest_does_nothing_and_goes_on_where_it_was)
{
    make_echo();
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    qmp_client_do(&client, "stop", NULL);
    expect_plain_event(&client, "STOP");
    expect_status(&client, "paused");
    vm_send(&vm, "abc", 3);
    usleep(A_WHILE_US);
    qmp_client_do(&client, "stop", NULL); /* harmless */
    ck_assert_str_eq(vm.out.data, "ready");

    qmp_client_do(&client, "cont", NULL);
    expect_plain_event(&client, "RESUME");
    ck_assert(vm_wait_output(&vm, "readyabc"));
    qmp_client_do(&client, "cont", NULL); /* harmless */
    expect_no_event(&client, "RESUME");
    expect_no_event(&client, "STOP");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(two_clients_pause_at_once)
{
    make_echo();
    start_and_connect(NULL);
    qmp_client_open(&other, socket_path);
    for (unsigned i = 0; i < 100; i++) {
        qmp_client_begin(&client, "stop", NULL);
        qmp_client_begin(&other, "stop", NULL);
        json_decref(qmp_client_answer(&client));
        json_decref(qmp_client_answer(&other));
        expect_status(&other, "paused");
        qmp_client_do(&client, "cont", NULL);
        expect_plain_event(&other, "STOP");
        expect_plain_event(&other, "RESUME");
    }
    expect_no_event(&other, "STOP");
    vm_send(&vm, "x", 1);
    ck_assert(vm_wait_output(&vm, "readyx"));
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(reset_of_a_paused_guest_leaves_the_next_one_paused)
{
    guest_put_text(&guest, "life");
    guest_op(&guest, GUEST_HALT, 0, 0, 0);
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "life"));
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "system_reset", NULL);
    expect_event(&client, "RESET", "host-qmp-system-reset", false);
    usleep(A_WHILE_US);
    expect_status(&client, "paused");
    ck_assert_str_eq(vm.out.data, "life");
    qmp_client_do(&client, "cont", NULL);
    expect_plain_event(&client, "RESUME");
    ck_assert(vm_wait_output(&vm, "lifelife"));
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(guest_begins_when_a_client_says_so)
{
    const char *const extra[] = {"--paused", "on", NULL};

    make_echo();
    start_and_connect(extra);
    usleep(A_WHILE_US);
    expect_status(&client, "prelaunch");
    qmp_client_do(&client, "stop", NULL); /* harmless */
    expect_status(&client, "prelaunch");
    ck_assert_str_eq(vm.out.data ? vm.out.data : "", "");
    qmp_client_do(&client, "cont", NULL);
    expect_plain_event(&client, "RESUME");
    ck_assert(vm_wait_output(&vm, "ready"));
    expect_no_event(&client, "STOP");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(guest_that_has_not_begun_is_not_asked)
{
    const char *const extra[] = {"--paused", "on", NULL};

    make_idle();
    start_and_connect(extra);
    signal_vm(SIGTERM);
    expect_event(&client, "SHUTDOWN", "host-signal", false);
    expect_end(EXIT_KILLED);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "ended before the guest ran"));
}
END_TEST

START_TEST(paused_guest_is_ended)
{
    make_idle();
    start_and_connect(NULL);
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "quit", NULL);
    expect_event(&client, "SHUTDOWN", "host-qmp-quit", false);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(button_of_a_paused_guest_is_noticed_when_it_goes_on)
{
    make_obedient();
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    qmp_client_do(&client, "stop", NULL);
    qmp_client_do(&client, "system_powerdown", NULL);
    usleep(A_WHILE_US);
    expect_status(&client, "paused");
    qmp_client_do(&client, "cont", NULL);
    expect_event(&client, "SHUTDOWN", "guest-shutdown", true);
    expect_end(EXIT_POWER_OFF);
}
END_TEST

/* Nobody would let it go on, and it could not power off. */
START_TEST(signal_lets_a_paused_guest_go_on)
{
    make_obedient();
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    qmp_client_do(&client, "stop", NULL);
    signal_vm(SIGTERM);
    expect_plain_event(&client, "POWERDOWN");
    expect_plain_event(&client, "RESUME");
    expect_event(&client, "SHUTDOWN", "guest-shutdown", true);
    expect_end(EXIT_POWER_OFF);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "the guest was paused: it goes on"));
}
END_TEST

START_TEST(signals_end_a_guest_with_clients)
{
    make_idle();
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    signal_vm(SIGTERM);
    expect_plain_event(&client, "POWERDOWN");
    usleep(ENDING_PAUSE_NS / 1000);
    signal_vm(SIGTERM);
    expect_event(&client, "SHUTDOWN", "host-signal", false);
    qmp_client_end(&client);
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- what is told ---------------------------------------------------------------------------- */

/* A number in the first element of a list that a command returns; `object` is a member of that. */
static json_int_t number_in_first(const char *command, const char *object, const char *name)
{
    json_t *list = qmp_client_ask(&client, command, NULL);
    json_t *number = json_object_get(json_object_get(json_array_get(list, 0), object), name);
    json_int_t value = json_integer_value(number);

    ck_assert_msg(number != NULL, "%s: no %s", command, name);
    json_decref(list);
    return value;
}

/* A statistic of the first object of a target; -1: there is none. */
static json_int_t statistic(const char *target, const char *provider, const char *name)
{
    char arguments[200];
    json_t *results, *stats;
    json_int_t value = -1;

    snprintf(arguments, sizeof(arguments),
             "{\"target\":\"%s\",\"providers\":[{\"provider\":\"%s\",\"names\":[\"%s\"]}]}", target,
             provider, name);
    results = qmp_client_ask(&client, "query-stats", arguments);
    stats = json_object_get(json_array_get(results, 0), "stats");
    if (json_array_size(stats) == 1)
        value = json_integer_value(json_object_get(json_array_get(stats, 0), "value"));
    json_decref(results);
    return value;
}

START_TEST(counters_say_what_the_guest_did)
{
    const char *path = scratch_path("counted.qcow2");
    const char *const extra[] = {"--disk", path, NULL};
    const struct block_create_options image = {
        .path = path, .format = BLOCK_FORMAT_QCOW2, .len = MIB};
    struct guest_disk disk;
    struct err err;

    ck_assert_int_eq(block_create(&image, &err), 0);
    guest_disk_init(&disk, &guest, 0);
    guest_fill(&guest, GUEST_DISK_BUFFER, 1, 4096);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 0, GUEST_DISK_BUFFER, 512);
    guest_disk_request(&disk, VIRTIO_BLK_T_OUT, 8, GUEST_DISK_BUFFER, 4096);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 0, GUEST_DISK_BUFFER, 1024);
    guest_disk_request(&disk, VIRTIO_BLK_T_IN, 5000, GUEST_DISK_BUFFER, 512); /* beyond the end */
    guest_disk_request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    make_idle();
    start_and_connect(extra);
    ck_assert(vm_wait_output(&vm, "ready"));

    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "wr_operations"), 2);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "wr_bytes"), 4608);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "rd_operations"), 1);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "rd_bytes"), 1024);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "invalid_rd_operations"), 1);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "flush_operations"), 1);
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "wr_highest_offset"), 8192);
    ck_assert_int_gt(number_in_first("query-blockstats", "stats", "wr_total_time_ns"), 0);
    ck_assert_int_ge(statistic("vm", "minivmm", "queue-kicks"), 1);
    ck_assert_int_ge(statistic("vm", "minivmm", "data-writes"), 1);
    ck_assert_int_ge(statistic("vcpu", "minivmm", "exits-port-write"), 5); /* "ready" */
    ck_assert_int_ge(statistic("vcpu", "minivmm", "exits-mmio-write"),
                     5); /* the driver's registers */

    /* Which of them a software KVM counts is its own affair. */
    if (statistic("vcpu", "kvm", "exits") < 0 || statistic("vm", "kvm", "nx_lpage_splits") < 0)
        printf("KVM has no counters here (Linux before 5.14): they are not tested\n");

    /* Counters of the disk are the VM's, those of CPUs the guest's. */
    qmp_client_do(&client, "system_reset", NULL);
    ck_assert(vm_wait_output(&vm, "readyready"));
    ck_assert_int_eq(number_in_first("query-blockstats", "stats", "wr_operations"), 4);
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* Does the answer of the monitor have this text? */
static void expect_shown(const char *line, const char *text)
{
    char arguments[200];
    json_t *answer;

    snprintf(arguments, sizeof(arguments), "{\"command-line\":\"%s\"}", line);
    answer = qmp_client_ask(&client, "human-monitor-command", arguments);
    ck_assert_msg(strstr(json_string_value(answer), text) != NULL, "%s: no '%s' in:\n%s", line,
                  text, json_string_value(answer));
    json_decref(answer);
}

/* Running, and paused. */
START_TEST(monitor_looks_into_the_guest)
{
    guest_route_irq(&guest, X86_GSI_GED, VECTOR);
    guest_op(&guest, GUEST_ST64, GUEST_DATA, 0x1122334455667788, 0);
    make_idle();
    start_and_connect(NULL);
    ck_assert(vm_wait_output(&vm, "ready"));
    for (unsigned i = 0; i < 2; i++) {
        expect_shown("xp /1xg 0x200000", "0000000000200000: 0x1122334455667788\n");
        expect_shown("x /2xw 0x200000", "0000000000200000: 0x55667788 0x11223344\n");
        expect_shown("x 0x7f0000000000", "Cannot access memory");
        expect_shown("info registers", "CPU#0\nRAX=");
        expect_shown("info registers", "HLT=1\n");
        expect_shown("info mem", "0000000000000000-0000000100000000 0000000100000000 -rw\n");
        expect_shown("info mtree", "0000000000000000-0000000003ffffff (ram): RAM\n");
        expect_shown("info mtree", "(i/o): serial");
        expect_shown("info irq", "IRQ  9: power button: vector 0x40, edge, to APIC 0\n");
        qmp_client_do(&client, "stop", NULL);
    }
    expect_shown("info status", "VM status: paused\n");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

#define FIRST GUEST_DATA
#define SPAN 16384u
#define LAST (FIRST + SPAN - 8)

/*
 * One CPU counts in two places, the first one first; another one is asked what is there. If the
 * guest ran meanwhile, the second place would be ahead, as the look from the one to the other takes
 * long.
 */
START_TEST(memory_is_that_of_one_moment)
{
    char arguments[200];
    size_t again;

    guest_start_cpus(&guest);
    guest_op(&guest, GUEST_WAIT16, GUEST_CPU_COUNT_LOW, 1, 0);
    guest_put_text(&guest, "ready");
    again = guest_op(&guest, GUEST_ADD64, FIRST, 1, 0);
    guest_op(&guest, GUEST_ADD64, LAST, 1, 0);
    guest_op(&guest, GUEST_GOTO, again, 0, 0);
    start_and_connect((const char *const[]){"--cpus", "2", NULL});
    ck_assert(vm_wait_output(&vm, "ready"));
    snprintf(arguments, sizeof(arguments), "{\"command-line\":\"xp /%uug %#x\",\"cpu-index\":1}",
             SPAN / 8, FIRST);
    for (unsigned i = 0; i < 20; i++) {
        json_t *answer = qmp_client_ask(&client, "human-monitor-command", arguments);
        const char *text = json_string_value(answer);
        unsigned long long first = strtoull(strchr(text, ':') + 1, NULL, 10);
        unsigned long long last = strtoull(strrchr(text, ' '), NULL, 10);

        ck_assert_msg(first == last || first == last + 1, "%llu and %llu", first, last);
        json_decref(answer);
    }
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- clients that are wrong ------------------------------------------------------------------ */

START_TEST(wrong_requests_get_errors_of_the_known_classes)
{
    static const struct {
        const char *command;
        const char *arguments;
        const char *class;
    } wrong[] = {
        {"no-such-command", NULL, "CommandNotFound"},
        {"qmp_capabilities", NULL, "CommandNotFound"},
        {"stop", "{\"now\":true}", "GenericError"},
        {"stop", "[]", "GenericError"},
        {"qmp_capabilities", "{\"enable\":[\"oob\"]}", "CommandNotFound"},
    };

    make_idle();
    start_and_connect(NULL);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        expect_error(&client, wrong[i].command, wrong[i].arguments, wrong[i].class);
    expect_status(&client, "running");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* One says garbage, one half a message, one asks and never reads; the others notice nothing. */
START_TEST(clients_that_are_broken_hurt_nobody)
{
    struct qmp_client broken[3];

    make_echo();
    start_and_connect(NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(broken); i++)
        qmp_client_connect(&broken[i], socket_path);
    qmp_client_send(&broken[0], "GET / HTTP/1.1\r\n\r\n{]\n\x01\x02{\"execute\":5}}}}");
    qmp_client_send(&broken[1], "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"");
    qmp_client_send(&broken[2], "{\"execute\":\"qmp_capabilities\"}");
    for (unsigned i = 0; i < 20000; i++) {
        static const char text[] = "{\"execute\":\"query-qmp-schema\"}";

        if (send(broken[2].fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            break;
    }
    expect_status(&client, "running");
    vm_send(&vm, "x", 1);
    ck_assert(vm_wait_output(&vm, "readyx"));
    for (unsigned i = 0; i < ARRAY_SIZE(broken); i++)
        qmp_client_close(&broken[i]);
    expect_status(&client, "running");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- the socket ------------------------------------------------------------------------------ */

START_TEST(socket_in_use_is_an_error_and_its_owner_notices_nothing)
{
    struct vm second;
    char address[sizeof(socket_path) + 16];
    const char *const args[] = {
        "--kernel", scratch_path("kernel"), "--serial", "null", "--qmp", address, NULL};

    make_idle();
    start_and_connect(NULL);
    snprintf(address, sizeof(address), "unix:%s", socket_path);
    assert_exit_code(&second, vm_run(&second, args), EXIT_SETUP);
    ck_assert_ptr_nonnull(strstr(vm_errors(&second), "qmp: exists: expected a new path"));
    vm_done(&second);
    qmp_client_open(&other, socket_path);
    qmp_client_do(&other, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(path_that_is_too_long_is_an_error)
{
    char address[400] = "unix:/tmp/";
    const char *const args[] = {"--kernel", scratch_path("kernel"), "--qmp", address, NULL};

    memset(address + strlen(address), 'x', 300);
    make_idle();
    guest_write_kernel(&guest, scratch_path("kernel"));
    assert_exit_code(&vm, vm_run(&vm, args), EXIT_SETUP);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "expected a socket path of at most 107 bytes"));
}
END_TEST

START_TEST(socket_that_was_left_behind_is_replaced)
{
    make_idle();
    start_and_connect(NULL);
    signal_vm(SIGKILL);
    ck_assert_int_eq(vm_wait(&vm), -SIGKILL);
    vm_done(&vm);
    qmp_client_close(&client);
    ck_assert_int_eq(access(socket_path, F_OK), 0);
    start_and_connect(NULL);
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

/* ---- names ----------------------------------------------------------------------------------- */

/* A folder for control sockets that is no other test's. */
static void use_runtime_folder(const char *name)
{
    const char *folder = scratch_path(name);

    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", folder, 1), 0);
}

static void start_named(const char *name)
{
    const char *kernel = scratch_path("kernel");
    const char *const args[] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--name", name, NULL};

    snprintf(socket_path, sizeof(socket_path), "%s/minivmm/%s.qmp", getenv("XDG_RUNTIME_DIR"),
             name);
    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
}

START_TEST(name_leads_to_the_vm_and_is_its_alone)
{
    const char *const args[] = {"--kernel", scratch_path("kernel"), "--name", "web", NULL};
    struct vm second;
    struct stat st;
    char *name;

    make_idle();
    use_runtime_folder("one");
    start_named("web");
    qmp_client_open(&client, socket_path);
    name = qmp_client_text(&client, "query-name", "name");
    ck_assert_str_eq(name, "web");
    free(name);
    ck_assert_int_eq(stat(scratch_path("one/minivmm"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);

    assert_exit_code(&second, vm_run(&second, args), EXIT_SETUP);
    ck_assert_ptr_nonnull(strstr(vm_errors(&second), "minivmm web: --name web: a VM with this name "
                                                     "runs already"));
    vm_done(&second);
    expect_status(&client, "running");
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
    ck_assert_int_eq(access(socket_path, F_OK), -1);
}
END_TEST

static void expect_name_in_use(const char *name)
{
    const char *const args[] = {"--kernel", scratch_path("kernel"), "--name", name, NULL};
    struct vm second;

    assert_exit_code(&second, vm_run(&second, args), EXIT_SETUP);
    ck_assert_ptr_nonnull(strstr(vm_errors(&second), "a VM with this name runs already: /"));
    vm_done(&second);
}

/* With the folder that the variable says now, or that is used without it. */
static void start_named_anywhere(const char *name)
{
    const char *kernel = scratch_path("kernel");
    const char *const args[] = {"--kernel", kernel, "--memory", GUEST_MEMORY, "--name", name, NULL};
    char *folders[VM_FOLDERS_MAX];

    vm_names_folders(folders);
    snprintf(socket_path, sizeof(socket_path), "%s/%s.qmp", folders[0], name);
    for (size_t i = 0; i < VM_FOLDERS_MAX; i++)
        free(folders[i]);
    guest_write_kernel(&guest, kernel);
    vm_start(&vm, args);
    qmp_client_open(&client, socket_path);
}

/* One VM was started without the variable, or with its usual value, and the next one is not. */
START_TEST(name_in_another_folder_is_in_use)
{
    const bool is_usual = _i == 1;
    char name[32], usual[32];

    snprintf(usual, sizeof(usual), "/run/user/%u", geteuid());
    if (is_usual && access(usual, W_OK) < 0) {
        printf("%s: not there: a name in it is not tested\n", usual);
        return;
    }
    snprintf(name, sizeof(name), "test-%d-%d", getpid(), _i);
    make_idle();
    ck_assert_int_eq(is_usual ? setenv("XDG_RUNTIME_DIR", usual, 1) : unsetenv("XDG_RUNTIME_DIR"),
                     0);
    start_named_anywhere(name);

    use_runtime_folder("other");
    expect_name_in_use(name);
    ck_assert_int_eq(rmdir(scratch_path("other/minivmm")), 0); /* no socket stays in it */
    ck_assert_int_eq(rmdir(scratch_path("other")), 0);
    ck_assert_int_eq(unsetenv("XDG_RUNTIME_DIR"), 0);
    expect_name_in_use(name);
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(name_of_a_vm_that_was_killed_is_free)
{
    make_idle();
    use_runtime_folder("killed");
    start_named("web");
    qmp_client_open(&client, socket_path);
    qmp_client_close(&client);
    signal_vm(SIGKILL);
    ck_assert_int_eq(vm_wait(&vm), -SIGKILL);
    vm_done(&vm);
    start_named("web");
    qmp_client_open(&client, socket_path);
    qmp_client_do(&client, "quit", NULL);
    expect_end(EXIT_KILLED);
}
END_TEST

START_TEST(folder_that_others_may_write_to_is_not_used)
{
    make_idle();
    use_runtime_folder("open");
    ck_assert_int_eq(mkdir(scratch_path("open/minivmm"), 0755), 0);
    start_named("web");
    expect_end(EXIT_SETUP);
    ck_assert_ptr_nonnull(strstr(vm_errors(&vm), "with mode 0700"));
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("lives");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, reset_of_the_guest_itself_is_told, 0, 2);
    tcase_add_loop_test(tcase, client_asks_between_two_guests, 0, 2);
    tcase_add_loop_test(tcase, name_in_another_folder_is_in_use, 0, 2);
    suite_add_tcase(suite, tcase);

    unit_case_with(suite, "power", set_up, tear_down,
                   guest_is_asked_to_power_off_and_all_clients_hear_of_it,
                   guest_without_a_button_is_told_of, client_resets_the_guest_and_stays_connected,
                   client_resets_as_often_as_it_likes, client_ends_a_guest_that_has_just_begun,
                   end_is_told_when_the_next_guest_cannot_start);
    unit_case_with(suite, "pauses", set_up, tear_down,
                   paused_guest_does_nothing_and_goes_on_where_it_was, two_clients_pause_at_once,
                   reset_of_a_paused_guest_leaves_the_next_one_paused, paused_guest_is_ended,
                   guest_begins_when_a_client_says_so, guest_that_has_not_begun_is_not_asked,
                   button_of_a_paused_guest_is_noticed_when_it_goes_on,
                   signal_lets_a_paused_guest_go_on, signals_end_a_guest_with_clients);
    unit_case_with(suite, "told", set_up, tear_down, counters_say_what_the_guest_did,
                   monitor_looks_into_the_guest, memory_is_that_of_one_moment);
    unit_case_with(suite, "clients", set_up, tear_down,
                   wrong_requests_get_errors_of_the_known_classes,
                   clients_that_are_broken_hurt_nobody);
    unit_case_with(suite, "names", set_up, tear_down, name_leads_to_the_vm_and_is_its_alone,
                   name_of_a_vm_that_was_killed_is_free,
                   folder_that_others_may_write_to_is_not_used);
    unit_case_with(suite, "socket", set_up, tear_down,
                   socket_in_use_is_an_error_and_its_owner_notices_nothing,
                   path_that_is_too_long_is_an_error, socket_that_was_left_behind_is_replaced);
}

GUEST_TEST_MAIN("qmp", add_tests)
