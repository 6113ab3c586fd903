/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands about the machine, on one that only says what was asked of it.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/fake_vm.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/control/commands_machine.h"

static struct qmp_rig rig;
static struct fake_vm fake;
static int fd;

/* ---- the rig --------------------------------------------------------------------------------- */

static void set_up(void)
{
    fake_vm_init(&fake);
    qmp_rig_init(&rig, &commands_machine, &fake.vm);
    fd = qmp_rig_connect_negotiated(&rig);
}

static void tear_down(void)
{
    commands_machine_end_stopping(&fake.vm, "the test is over");
    fake_vm_done(&fake);
    close(fd);
    qmp_rig_done(&rig);
}

static const char *ask(const char *command)
{
    char text[128];

    snprintf(text, sizeof(text), "{\"execute\":\"%s\"}", command);
    return qmp_rig_ask(&rig, fd, text);
}

#define OK "{\"return\":{}}\r\n"

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(queries_are_answered_in_qemus_words)
{
    static const struct {
        const char *command;
        const char *answer;
    } cases[] = {
        {"query-name", "{\"return\":{}}\r\n"},
        {"query-uuid", "{\"return\":{\"UUID\":\"00000000-0000-0000-0000-000000000000\"}}\r\n"},
        {"query-kvm", "{\"return\":{\"enabled\":true,\"present\":true}}\r\n"},
        {"query-memory-size-summary",
         "{\"return\":{\"base-memory\":5368709120,\"plugged-memory\":0}}\r\n"},
        {"query-chardev", "{\"return\":[{\"label\":\"serial0\",\"filename\":"
                          "\"unix:/run/s,server=on\",\"frontend-open\":true}]}\r\n"},
        {"query-cpus-fast",
         "{\"return\":[{\"cpu-index\":0,\"qom-path\":\"/machine/cpu[0]\",\"thread-id\":100,"
         "\"target\":\"x86_64\",\"props\":{\"socket-id\":0,\"core-id\":0,\"thread-id\":0}},"
         "{\"cpu-index\":1,\"qom-path\":\"/machine/cpu[1]\",\"thread-id\":101,"
         "\"target\":\"x86_64\",\"props\":{\"socket-id\":0,\"core-id\":1,\"thread-id\":0}}]}\r\n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_str_eq(ask(cases[i].command), cases[i].answer);
    fake.vm.name = "web";
    ck_assert_str_eq(ask("query-name"), "{\"return\":{\"name\":\"web\"}}\r\n");
    fake.vm.serial.where = "file:/\xc3\xa4\xff";
    ck_assert_str_eq(ask("query-chardev"), "{\"return\":[{\"label\":\"serial0\",\"filename\":"
                                           "\"file:/\xc3\xa4?\",\"frontend-open\":true}]}\r\n");
    ck_assert_str_eq(fake.actions, "");
}
END_TEST

START_TEST(states_have_qemus_names)
{
    static const struct {
        enum vm_state state;
        const char *name;
        const char *running;
    } cases[] = {
        {VM_RUNNING, "running", "true"},    {VM_PAUSING, "running", "true"},
        {VM_PAUSED, "paused", "false"},     {VM_PRELAUNCH, "prelaunch", "false"},
        {VM_DEBUG, "debug", "false"},       {VM_IO_ERROR, "io-error", "false"},
        {VM_NO_GUEST, "shutdown", "false"},
    };
    char answer[128];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fake.state = cases[i].state;
        snprintf(answer, sizeof(answer), "{\"return\":{\"status\":\"%s\",\"running\":%s}}\r\n",
                 cases[i].name, cases[i].running);
        ck_assert_str_eq(ask("query-status"), answer);
    }
    ck_assert_str_eq(ask("query-cpus-fast"), "{\"return\":[]}\r\n");
}
END_TEST

START_TEST(stop_is_answered_when_the_guest_is_paused)
{
    int second = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask("stop"), "");
    qmp_rig_send(second, "{\"execute\":\"stop\",\"id\":2}");
    ck_assert_str_eq(qmp_rig_receive(&rig, second), "");
    fake.state = VM_PAUSED;
    commands_machine_end_stopping(&fake.vm, NULL);
    ck_assert_str_eq(qmp_rig_receive(&rig, fd), OK);
    ck_assert_str_eq(qmp_rig_receive(&rig, second), "{\"return\":{},\"id\":2}\r\n");
    ck_assert_str_eq(ask("stop"), OK);
    ck_assert_str_eq(fake.actions, "pp");
    close(second);
}
END_TEST

START_TEST(stop_that_comes_to_nothing_is_an_error)
{
    ck_assert_str_eq(ask("stop"), "");
    commands_machine_end_stopping(&fake.vm, "it did not happen");
    ck_assert_str_eq(qmp_rig_receive(&rig, fd),
                     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"it did not happen\"}}\r\n");
}
END_TEST

/* Its answer has nobody to go to, and nothing else is lost. */
START_TEST(client_that_leaves_while_it_waits_for_a_pause_is_forgotten)
{
    ck_assert_str_eq(ask("stop"), "");
    close(fd);
    qmp_rig_settle(&rig);
    commands_machine_end_stopping(&fake.vm, NULL);
    fd = qmp_rig_connect_negotiated(&rig);
    ck_assert_str_eq(ask("cont"), OK);
    ck_assert_str_eq(fake.actions, "pc");
}
END_TEST

START_TEST(power_is_a_button_a_reset_and_the_end)
{
    ck_assert_str_eq(ask("system_powerdown"), OK);
    ck_assert_str_eq(ask("system_reset"), OK);
    fake.has_button = false;
    ck_assert(strstr(ask("system_powerdown"), "no power button"));
    ck_assert_str_eq(ask("quit"), OK);
    ck_assert_str_eq(fake.actions, "brbq");
}
END_TEST

START_TEST(nothing_is_done_after_quit)
{
    int second = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(qmp_rig_ask(&rig, fd, "{\"execute\":\"quit\"}{\"execute\":\"system_reset\"}"),
                     OK);
    ck_assert_str_eq(qmp_rig_ask(&rig, second, "{\"execute\":\"system_reset\"}"), "");
    ck_assert_str_eq(fake.actions, "q");
    close(second);
}
END_TEST

START_TEST(without_a_guest_there_is_nothing_to_pause_or_to_ask)
{
    fake.state = VM_NO_GUEST;
    ck_assert(strstr(ask("stop"), "no guest runs"));
    ck_assert(strstr(ask("cont"), "no guest runs"));
    ck_assert(strstr(ask("system_powerdown"), "no guest runs"));
    ck_assert_str_eq(fake.actions, "");
    ck_assert_str_eq(ask("system_reset"), OK);
    ck_assert_str_eq(ask("quit"), OK);
    ck_assert_str_eq(fake.actions, "rq");
}
END_TEST

/* What is to be done to a guest that has ended is for the next one, and clients need not wait. */
START_TEST(guest_that_stops_is_not_asked_and_the_next_one_is)
{
    static const char *const names[] = {"stop", "cont", "system_powerdown", "system_reset"};
    static const char actions[] = "pcbr";

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        fake.actions[0] = '\0';
        fake.state = VM_STOPPING;
        ck_assert_str_eq(ask(names[i]), "");
        ck_assert_str_eq(fake.actions, "");
        fake.state = VM_RUNNING;
        commands_machine_go_on(&fake.vm);
        if (i == 0)
            commands_machine_end_stopping(&fake.vm, NULL);
        ck_assert_str_eq(qmp_rig_receive(&rig, fd), OK);
        ck_assert_int_eq(fake.actions[0], actions[i]);
    }
}
END_TEST

START_TEST(state_of_a_guest_that_stops_long_is_told)
{
    int second = qmp_rig_connect_negotiated(&rig);

    fake.state = VM_STOPPING;
    ck_assert_str_eq(ask("query-status"), "");
    ck_assert_str_eq(qmp_rig_ask(&rig, second, "{\"execute\":\"stop\"}"), "");
    fake.vm.stops_long = true;
    commands_machine_go_on(&fake.vm);
    ck_assert_ptr_nonnull(strstr(qmp_rig_receive(&rig, fd), "shutdown"));
    ck_assert_ptr_nonnull(strstr(ask("query-status"), "shutdown"));
    ck_assert_str_eq(qmp_rig_receive(&rig, second), "");

    fake.vm.stops_long = false;
    ck_assert_str_eq(ask("query-status"), "");
    commands_machine_end_waiting(&fake.vm);
    ck_assert_ptr_nonnull(strstr(qmp_rig_receive(&rig, fd), "shutdown"));
    ck_assert_ptr_nonnull(strstr(qmp_rig_receive(&rig, second), "the guest has ended"));
    close(second);
}
END_TEST

static const char *read_ring(const char *arguments)
{
    char text[256];

    snprintf(text, sizeof(text), "{\"execute\":\"ringbuf-read\",\"arguments\":{%s}}", arguments);
    return qmp_rig_ask(&rig, fd, text);
}

/* As often as one likes, and as JSON can have it. */
START_TEST(latest_output_of_the_serial_port)
{
    static const char text[] = "gone\r\n\x1b[1mlogin\xff\0:";
    struct byte_queue shown = {0};

    ck_assert_str_eq(read_ring("\"device\":\"serial0\",\"size\":5"), "{\"return\":\"\"}\r\n");
    byte_queue_append(&shown, (const uint8_t *)text, sizeof(text) - 1, SIZE_MAX);
    fake.vm.serial.shown = &shown;
    for (unsigned i = 0; i < 2; i++)
        ck_assert_str_eq(read_ring("\"device\":\"serial0\",\"size\":12,\"format\":\"utf8\""),
                         "{\"return\":\"\\u001B[1mlogin?:\"}\r\n");
    ck_assert_str_eq(read_ring("\"device\":\"serial0\",\"size\":9223372036854775807"),
                     "{\"return\":\"gone\\r\\n\\u001B[1mlogin?:\"}\r\n");
    ck_assert_ptr_nonnull(strstr(read_ring("\"device\":\"x\",\"size\":1"), "not found"));
    ck_assert_ptr_nonnull(strstr(read_ring("\"device\":\"console0\",\"size\":1"), "not found"));
    fake.vm.console = (struct vm_port){.where = "pty:/dev/pts/3", .shown = &shown};
    ck_assert_str_eq(read_ring("\"device\":\"console0\",\"size\":1"), "{\"return\":\":\"}\r\n");
    ck_assert_ptr_nonnull(strstr(ask("query-chardev"), "{\"label\":\"console0\",\"filename\":"
                                                       "\"pty:/dev/pts/3\","));
    ck_assert_ptr_nonnull(strstr(read_ring("\"device\":\"serial0\",\"size\":0"), "zero"));
    ck_assert_ptr_nonnull(strstr(read_ring("\"device\":\"serial0\",\"size\":-1"), "zero"));
    ck_assert_ptr_nonnull(
        strstr(read_ring("\"device\":\"serial0\",\"size\":1,\"format\":\"base64\""), "utf8"));
    byte_queue_done(&shown);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "machine", set_up, tear_down, queries_are_answered_in_qemus_words,
                   states_have_qemus_names, stop_is_answered_when_the_guest_is_paused,
                   stop_that_comes_to_nothing_is_an_error,
                   client_that_leaves_while_it_waits_for_a_pause_is_forgotten,
                   power_is_a_button_a_reset_and_the_end, nothing_is_done_after_quit,
                   latest_output_of_the_serial_port,
                   without_a_guest_there_is_nothing_to_pause_or_to_ask,
                   guest_that_stops_is_not_asked_and_the_next_one_is,
                   state_of_a_guest_that_stops_long_is_told);
}

UNIT_MAIN("commands_machine", add_tests)
