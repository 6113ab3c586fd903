/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands about the guest's memory, on a VM that only notes what was asked of it.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/fake_vm.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/control/commands_balloon.h"

static struct qmp_rig rig;
static struct fake_vm fake;
static int fd;

static void set_up(void)
{
    fake_vm_init(&fake);
    fake.has_balloon = true;
    fake.balloon_memory = 3 * GIB;
    qmp_rig_init(&rig, &commands_balloon, &fake.vm);
    fd = qmp_rig_connect_negotiated(&rig);
}

static void tear_down(void)
{
    fake_vm_done(&fake);
    close(fd);
    qmp_rig_done(&rig);
}

static const char *ask(const char *text)
{
    return qmp_rig_ask(&rig, fd, text);
}

START_TEST(memory_is_told_and_set)
{
    ck_assert_str_eq(ask("{\"execute\":\"query-balloon\"}"),
                     "{\"return\":{\"actual\":3221225472}}\r\n");
    ck_assert_str_eq(ask("{\"execute\":\"balloon\",\"arguments\":{\"value\":9007199254740993}}"),
                     "{\"return\":{}}\r\n");
    ck_assert_uint_eq(fake.balloon_memory, 9007199254740993);
    ck_assert(strstr(ask("{\"execute\":\"balloon\",\"arguments\":{\"value\":0}}"), "more than 0"));
    ck_assert(strstr(ask("{\"execute\":\"balloon\",\"arguments\":{\"value\":-1}}"), "more than 0"));
    ck_assert(strstr(ask("{\"execute\":\"balloon\"}"), "value"));
    ck_assert_uint_eq(fake.balloon_memory, 9007199254740993);
}
END_TEST

START_TEST(statistics_are_those_that_the_guest_told)
{
    ck_assert_str_eq(ask("{\"execute\":\"query-balloon-stats\"}"),
                     "{\"return\":{\"stats\":{}}}\r\n");
    fake.nballoon_stats = 2;
    ck_assert_str_eq(ask("{\"execute\":\"query-balloon-stats\"}"),
                     "{\"return\":{\"stats\":{\"stat-a\":1,\"stat-b\":2},\"age-ms\":5000}}\r\n");
}
END_TEST

START_TEST(without_a_balloon_all_fail)
{
    static const char *const commands[] = {
        "{\"execute\":\"query-balloon\"}",
        "{\"execute\":\"balloon\",\"arguments\":{\"value\":1}}",
        "{\"execute\":\"query-balloon-stats\"}",
    };

    fake.has_balloon = false;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        ck_assert_ptr_nonnull(strstr(ask(commands[i]), "\"DeviceNotActive\""));
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "balloon", set_up, tear_down, memory_is_told_and_set,
                   statistics_are_those_that_the_guest_told, without_a_balloon_all_fail);
}

UNIT_MAIN("commands_balloon", add_tests)
