/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/process/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/unit.h"

/* Descriptors `first` and up are open, as the shell's `9<file` leaves them. */
enum { FIRST = 100, LAST = 120 };

/* A setting is a string of its own. */
#define T(text) ((char *)(text))

static struct config config;

static void set_up(void)
{
    int fd = open("/dev/null", O_RDWR);

    ck_assert_int_ge(fd, 0);
    for (int i = FIRST; i <= LAST; i++)
        ck_assert_int_eq(dup2(fd, i), i);
    memset(&config, 0, sizeof(config));
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Exactly these are still open; -1 ends the list. */
static void assert_open(int first, ...)
{
    va_list args;
    int next = first;

    va_start(args, first);
    for (int fd = 3; fd <= LAST + 100; fd++) {
        if (is_open(fd) != (fd == next))
            ck_abort_msg("%d is %s", fd, is_open(fd) ? "open" : "closed");
        if (fd == next)
            next = va_arg(args, int);
    }
    va_end(args);
    ck_assert_int_eq(next, -1);
    for (int fd = 0; fd < 3; fd++)
        ck_assert(is_open(fd));
}

START_TEST(all_are_closed_that_nobody_named)
{
    ck_assert_int_eq(inherited_close(&config, NULL), 0);
    assert_open(-1);
}
END_TEST

START_TEST(those_are_kept_that_any_setting_names)
{
    char *initrds[] = {T("/dev/fd/102"), T("initrd"), T("/proc/self/fd/104")};
    char *for_one[] = {T("/dev/fd/115"), T("/images")}, *for_all[] = {T("/dev/fd/116")};
    struct config_disk disks[] = {{.path = T("/dev/fd/120"), .backing = {.paths = for_one, .n = 2}},
                                  {.path = T("/proc/self/fd/120")}};
    struct config_share shares[] = {{.path = T("/dev/fd/112")}};
    struct config_net nets[] = {{.kind = T("user")}, {.kind = T("fd:119")}, {.kind = T("fd=113")}};

    config = (struct config){
        .file = T("/dev/fd/103"),
        .kernel = T("/dev/fd/100"),
        .initrds = initrds,
        .ninitrds = 3,
        .disks = disks,
        .ndisks = 2,
        .shares = shares,
        .nshares = 1,
        .nets = nets,
        .nnets = 3,
        .serial.path = T("/dev/fd/110"),
        .console.path = T("/dev/fd/111"),
        .kernel_cache = T("/dev/fd/117"),
        .boot_trace = T("/proc/self/fd/118"),
        .backing = {.paths = for_all, .n = 1},
    };
    ck_assert_int_eq(inherited_close(&config, NULL), 0);
    assert_open(100, 102, 103, 104, 110, 111, 112, 113, 115, 116, 117, 118, 119, 120, -1);
}
END_TEST

START_TEST(other_names_keep_nothing)
{
    char *initrds[] = {T("/dev/fd/"), T("/dev/fd/1"), T("/dev/fd/103x"), T("dev/fd/104"),
                       T("/dev/fd/-105")};
    struct config_disk disks[] = {{.path = T("/dev/fd/99999999999999999999")},
                                  {.path = T("/dev/fd/4294967295")}};

    config = (struct config){
        .kernel = T("fd/100"),
        .initrds = initrds,
        .ninitrds = 5,
        .disks = disks,
        .ndisks = 2,
    };
    ck_assert_int_eq(inherited_close(&config, NULL), 0);
    assert_open(-1);
}
END_TEST

START_TEST(a_descriptor_that_is_not_there_is_refused)
{
    struct config_net nets[] = {{.kind = T("fd:119")}, {.kind = T("fd:150")}};
    struct err err = {0};

    config = (struct config){.nets = nets, .nnets = 2};
    ck_assert_int_eq(inherited_close(&config, &err), -EBADF);
    ck_assert_msg(strstr(err.msg, "fd 150: expected one that was open at the start"), "%s",
                  err.msg);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "close", set_up, NULL, all_are_closed_that_nobody_named,
                   those_are_kept_that_any_setting_names, other_names_keep_nothing,
                   a_descriptor_that_is_not_there_is_refused);
}

UNIT_MAIN("inherited", add_tests)
