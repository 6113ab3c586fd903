/* SPDX-License-Identifier: Apache-2.0 */
/*
 * human-monitor-command on a VM that is none.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/create.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/fake_vm.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/control/commands_monitor.h"
#include "vmm/control/monitor_memory.h"

static struct qmp_rig rig;
static struct fake_vm fake;
static int fd;

static void set_up(void)
{
    scratch_set_up();
    fake_vm_init(&fake);
    for (unsigned i = 0; i < sizeof(fake.ram); i++)
        fake.ram[i] = (uint8_t)(i + i / 256);
    qmp_rig_init(&rig, &commands_monitor, &fake.vm);
    fd = qmp_rig_connect_negotiated(&rig);
}

static void tear_down(void)
{
    fake_vm_done(&fake);
    close(fd);
    qmp_rig_done(&rig);
    scratch_tear_down();
}

/* The text, or with an error its description. */
static const char *say_on(const char *line, int cpu)
{
    static char text[1 << 20];
    json_error_t error;
    json_t *answer;
    const char *said;

    snprintf(text, sizeof(text),
             "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"%s\","
             "\"cpu-index\":%d}}",
             line, cpu);
    answer = json_loads(qmp_rig_ask(&rig, fd, text), 0, &error);
    ck_assert_ptr_nonnull(answer);
    said = json_string_value(json_object_get(answer, "return"));
    if (!said)
        said = json_string_value(json_object_get(json_object_get(answer, "error"), "desc"));
    snprintf(text, sizeof(text), "%s", said);
    json_decref(answer);
    return text;
}

static const char *say(const char *line)
{
    return say_on(line, 0);
}

/* ---- info ------------------------------------------------------------------------------------ */

START_TEST(status_is_told_as_people_know_it)
{
    ck_assert_str_eq(say("info status"), "VM status: running\n");
    fake.state = VM_PAUSED;
    ck_assert_str_eq(say("  info   status  "), "VM status: paused\n");
    ck_assert_str_eq(say("\\tinfo\\tstatus\\t"), "VM status: paused\n");
    fake.state = VM_IO_ERROR;
    ck_assert_str_eq(say("info status"), "VM status: paused (io-error)\n");
    fake.state = VM_DEBUG;
    ck_assert_str_eq(say("info status"), "VM status: paused (debug)\n");
}
END_TEST

START_TEST(topics_are_shown_of_the_cpu_that_is_asked_for)
{
    ck_assert_str_eq(say_on("info registers", 1), "topic 0 of CPU 1\n");
    ck_assert_str_eq(say_on("info registers -a", 1), "topic 0 of CPU 0\ntopic 0 of CPU 1\n");
    ck_assert_str_eq(say("info mem"), "topic 1 of CPU 0\n");
    ck_assert_str_eq(say("info mtree"), "topic 2 of CPU 0\n");
    ck_assert_str_eq(say("info irq"), "topic 3 of CPU 0\n");
    fake.state = VM_NO_GUEST;
    ck_assert_str_eq(say("info irq"), "no guest runs\n");
    ck_assert_str_eq(say_on("info registers", 2), "'cpu-index' must be from 0 to 1");
    ck_assert_str_eq(say_on("info registers", -1), "'cpu-index' must be from 0 to 1");
}
END_TEST

START_TEST(cpu_that_hangs_keeps_only_who_asks_about_it)
{
    int other = qmp_rig_connect_negotiated(&rig);
    static const char *const lines[] = {"info registers", "info mem", "x 0xffff800000000000",
                                        "xp 0x10000", "info registers -a"};
    char text[200];

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        fake.hung_cpu = true;
        snprintf(text, sizeof(text),
                 "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"%s\"}}",
                 lines[i]);
        ck_assert_str_eq(qmp_rig_ask(&rig, other, text), "");
        ck_assert_str_eq(say("info irq"), "topic 3 of CPU 0\n");
        fake_vm_let_cpu_answer(&fake);
        ck_assert_ptr_nonnull(strstr(qmp_rig_receive(&rig, other), "\"return\""));
    }
    close(other);
}
END_TEST

/* The guest ends first. */
START_TEST(cpu_that_is_gone_is_told)
{
    fake.state = VM_NO_GUEST;
    ck_assert_str_eq(say("info registers"), "no guest runs\n");
    ck_assert_str_eq(say("x 0"), "no guest runs\n");
    ck_assert_str_eq(say("xp 0"), "no guest runs\n");
}
END_TEST

START_TEST(disks_are_listed_with_their_backing_files)
{
    const struct block_create_options base = {
        .path = scratch_path("base.raw"), .format = BLOCK_FORMAT_RAW, .len = MIB};
    char expected[500];
    struct err err;

    ck_assert_str_eq(say("info block"), "");
    ck_assert_int_eq(block_create(&base, &err), 0);
    fake_vm_add_disk(&fake, rig.loop, scratch_path("base.raw"));
    snprintf(expected, sizeof(expected), "vda (#vda): %s (raw)\n    Cache mode:       writeback\n",
             scratch_path("base.raw"));
    ck_assert_str_eq(say("info block"), expected);
}
END_TEST

/* Registers of all CPUs, and memory, are those of one moment. */
START_TEST(other_cpus_stand_still_where_they_could_be_in_between)
{
    static const struct {
        const char *line;
        bool of_all;
    } cases[] = {
        {"info registers", false},      {"info registers -a", true}, {"info mem", true},
        {"x 0xffff800000000000", true}, {"xp 0x10000", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        say(cases[i].line);
        ck_assert_msg(fake.asked_of_all == cases[i].of_all, "%s", cases[i].line);
    }
}
END_TEST

START_TEST(unknown_commands_say_how_to_get_help)
{
    static const char *const lines[] = {
        "",        "info nothing", "info status now", "info registers -b", "infostatus", "quit",
        "quit -f", "xx 0",         "help nothing",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        ck_assert_msg(strstr(say(lines[i]), ": `help` lists what there is\n"), "%s", lines[i]);
}
END_TEST

START_TEST(help_has_a_line_for_each)
{
    static const char *const names[] = {
        "help",
        "info status",
        "info block",
        "info network",
        "info registers -a",
        "info registers",
        "info mem",
        "info mtree",
        "info irq",
        "set_link",
        "xp",
        "x",
    };
    const char *at = say("help");

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        ck_assert_msg(strncmp(at, names[i], strlen(names[i])) == 0, "%s is not %s", at, names[i]);
        at = strchr(at, '\n');
        ck_assert_ptr_nonnull(at);
        at++;
    }
    ck_assert_str_eq(at, "");
    ck_assert_str_eq(say("help xp"), "xp [/FORMAT] ADDRESS -- physical memory\n");
    ck_assert_str_eq(say(" help  info  irq "),
                     "info irq -- interrupts of devices, and where they lead\n");
    at = say("info");
    ck_assert_ptr_eq(strstr(at, "info status"), at);
    ck_assert(!strstr(at, "xp"));
}
END_TEST

/* ---- memory ---------------------------------------------------------------------------------- */

START_TEST(memory_is_shown_in_each_format)
{
    static const struct {
        const char *line;
        const char *shown;
    } cases[] = {
        {"xp 0x10000", "0000000000010000: 0x03020100\n"},
        {"xp 65537", "0000000000010001: 0x04030201\n"},
        {"xp /1xb 0x10010", "0000000000010010: 0x10\n"},
        {"xp/2xg 0x10000", "0000000000010000: 0x0706050403020100 0x0f0e0d0c0b0a0908\n"},
        {"xp /5hx 0x10000", "0000000000010000: 0x0100 0x0302 0x0504 0x0706 0x0908\n"},
        {"xp /3bd 0x1007f", "000000000001007f: 127 -128 -127\n"},
        {"xp /1bu 0x10080", "0000000000010080: 128\n"},
        {"xp /1bo 0x10008", "0000000000010008: 010\n"},
        {"xp /4c 0x10040", "0000000000010040: '@' 'A' 'B' 'C'\n"},
        {"xp /2c 0x10027", "0000000000010027: '\\x27' '('\n"},
        {"xp /5xw 0x10000", "0000000000010000: 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c\n"
                            "0000000000010010: 0x13121110\n"},
        {"xp /0x 0x10000", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert_str_eq(say(cases[i].line), cases[i].shown);
}
END_TEST

START_TEST(virtual_memory_is_read_page_by_page)
{
    uint8_t *last_page = fake.ram + FAKE_VM_RAM_LEN - VM_PAGE_SIZE;

    for (uint8_t i = 0; i < 4; i++) {
        last_page[VM_PAGE_SIZE - 4 + i] = i + 1;
        *(last_page - VM_PAGE_SIZE + i) = i + 5;
    }
    ck_assert_str_eq(say("x /1xg 0xffff800000000ffc"), "ffff800000000ffc: 0x0807060504030201\n");
}
END_TEST

START_TEST(memory_that_is_not_there_is_told)
{
    ck_assert_str_eq(say("xp 0xffff"), "Cannot access memory\n");
    ck_assert_str_eq(say("xp 0xffffffffffffffff"), "Cannot access memory\n");
    ck_assert_str_eq(say("x 0x1000"), "Cannot access memory\n");
    ck_assert_str_eq(say("x 0xffff800000003ffe"), "Cannot access memory\n");
    ck_assert(strstr(say("xp /8xg 0x13fe0"), "\nCannot access memory\n"));
}
END_TEST

START_TEST(wrong_formats_are_told_and_nothing_is_too_much)
{
    static const char *const lines[] = {
        "xp",
        "x",
        "xp /",
        "xp /x",
        "xp /4q 0",
        "xp zero",
        "xp 0x",
        "xp 0x10000 1",
        "xp /99999999999x 0x10000",
        "xp /2049g 0x10000",
        "xp /-1x 0x10000",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        ck_assert(strstr(say(lines[i]), "expected /FORMAT ADDRESS"));
    ck_assert_uint_gt(strlen(say("xp /16384bx 0x10000")), 5ul * MONITOR_MEMORY_MAX);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "info", set_up, tear_down, status_is_told_as_people_know_it,
                   topics_are_shown_of_the_cpu_that_is_asked_for,
                   cpu_that_hangs_keeps_only_who_asks_about_it, cpu_that_is_gone_is_told,
                   disks_are_listed_with_their_backing_files,
                   other_cpus_stand_still_where_they_could_be_in_between,
                   unknown_commands_say_how_to_get_help, help_has_a_line_for_each);
    unit_case_with(suite, "memory", set_up, tear_down, memory_is_shown_in_each_format,
                   virtual_memory_is_read_page_by_page, memory_that_is_not_there_is_told,
                   wrong_formats_are_told_and_nothing_is_too_much);
}

UNIT_MAIN("commands_monitor", add_tests)
