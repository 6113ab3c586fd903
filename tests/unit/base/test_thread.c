/* SPDX-License-Identifier: Apache-2.0 */
#include <semaphore.h>

#include "base/bytes.h"
#include "base/thread.h"
#include "tests/lib/unit.h"

static sem_t named;

static void *wait_for_name(void *arg)
{
    ck_assert_int_eq(sem_wait(&named), 0);
    ck_assert_int_eq(pthread_getname_np(pthread_self(), arg, THREAD_NAME_MAX + 1), 0);
    return NULL;
}

static void check_name(const char *prefix, const char *name, const char *expected)
{
    char comm[THREAD_NAME_MAX + 1];
    pthread_t thread;

    thread_set_prefix(prefix);
    ck_assert_int_eq(thread_start(&thread, name, wait_for_name, comm), 0);
    ck_assert_int_eq(sem_post(&named), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_str_eq(comm, expected);
}

START_TEST(names_begin_with_the_prefix_as_far_as_there_is_room)
{
    static const struct {
        const char *prefix;
        const char *name;
        const char *expected;
    } cases[] = {
        {NULL, "vcpu0", "vcpu0"},
        {NULL, "a-name-that-is-too-long", "a-name-that-is-"},
        {"web", "vcpu0", "web:vcpu0"},
        {"a-long-name", "vcpu254", "a-long-:vcpu254"},
        {"web", "thirteen-long", "w:thirteen-long"},
        {"web", "fourteen-chars", "fourteen-chars"},
    };

    ck_assert_int_eq(sem_init(&named, 0, 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_name(cases[i].prefix, cases[i].name, cases[i].expected);
    thread_set_prefix(NULL);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "thread", names_begin_with_the_prefix_as_far_as_there_is_room);
}

UNIT_USES_THREADS;
UNIT_MAIN("thread", add_tests)
