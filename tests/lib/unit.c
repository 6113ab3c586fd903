/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/unit.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/scratch.h"

/* For tests that set none of their own: it is there to end hangs, on a busy machine too. */
#define TEST_TIMEOUT_S "120"

/*
 * A shell lets its background jobs ignore SIGINT and SIGQUIT, and what is ignored stays so in the
 * programs that it starts: a test that sends one to itself would wait for ever.
 */
static void notice_signals(void)
{
    struct sigaction action;

    for (int signo = 1; signo <= SIGRTMAX; signo++)
        if (sigaction(signo, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            (void)signal(signo, SIG_DFL);
}

int unit_main(const char *name, void (*add_tests)(Suite *suite))
{
    Suite *suite = suite_create(name);
    SRunner *runner;
    int failed;

    /*
     * Tests allocate and free large buffers over and over: new pages would cost more than the rest.
     */
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    notice_signals();
    setenv("CK_DEFAULT_TIMEOUT", TEST_TIMEOUT_S, 0);
    scratch_begin();
    add_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    scratch_end();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

unsigned unit_number(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

unsigned unit_seed(void)
{
    unsigned seed = unit_number("SEED", (unsigned)time(NULL));

    printf("SEED=%u\n", seed);
    fflush(stdout); /* or each test's process would print it once more */
    return seed;
}
