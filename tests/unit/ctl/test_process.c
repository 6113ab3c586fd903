/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/process.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/unit.h"

static struct process process;

START_TEST(this_process_is_seen)
{
    volatile unsigned work = 0;
    uint64_t begin = monotonic_ns();

    while (monotonic_ns() - begin < 50 * NS_PER_MS)
        work = work + 1;
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
              process_that_is_gone);
}

UNIT_MAIN("process", add_tests)
