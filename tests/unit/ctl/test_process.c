/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/process.h"

#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/unit.h"

static struct process process;

/* Until it has run for some ticks of the kernel's clock. */
static void work(void)
{
    struct timespec used;

    do {
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 100000000);
}

START_TEST(this_process_is_seen)
{
    work();
    ck_assert_int_eq(process_look(getpid(), &process), 0);
    ck_assert_uint_ge(process.resident, 64 << 10);
    ck_assert_uint_lt(process.resident, 4ull << 30);
    ck_assert_uint_gt(process.cpu_ns, 0);
    ck_assert_uint_lt(process.cpu_ns, 600 * NS_PER_S);
    ck_assert_uint_lt(process.uptime_s, 600);
}
END_TEST

/* The kernel writes the name as it is. */
START_TEST(name_may_have_anything_in_it)
{
    ck_assert_int_eq(prctl(PR_SET_NAME, ") S 1 (2) 3\n"), 0);
    ck_assert_int_eq(process_look(getpid(), &process), 0);
    ck_assert_uint_lt(process.uptime_s, 600);
    ck_assert_uint_ge(process.resident, 64 << 10);
}
END_TEST

START_TEST(pseudo_terminals_belong_to_who_has_the_master)
{
    int master, slave;
    unsigned index;

    ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ck_assert_int_eq(sscanf(ptsname(master), "/dev/pts/%u", &index), 1);
    ck_assert(process_has_pty(getpid(), index));
    ck_assert(!process_has_pty(getpid(), index + 1));
    close(master);
    ck_assert(!process_has_pty(getpid(), index)); /* the slave is not the terminal's owner */
    close(slave);
    ck_assert(!process_has_pty(0, 0));
}
END_TEST

START_TEST(process_that_is_gone)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_int_lt(process_look(pid, &process), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "process", this_process_is_seen, name_may_have_anything_in_it,
              pseudo_terminals_belong_to_who_has_the_master, process_that_is_gone);
}

UNIT_MAIN("process", add_tests)
