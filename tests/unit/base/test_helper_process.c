/* SPDX-License-Identifier: Apache-2.0 */
#include "base/helper_process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

/* Longer than any helper here takes, also on a machine that is busy. */
#define PATIENCE_MS 20000

static struct helper_process *helper;
static struct loop *loop;
static struct err err;

static void set_up(void)
{
    scratch_set_up();
    memset(&err, 0, sizeof(err));
    helper = NULL;
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void tear_down(void)
{
    helper_process_end(helper, 0);
    loop_free(loop);
    scratch_tear_down();
}

static void start_spec(struct helper_spec spec, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    spec.name = "helper";
    spec.argv = argv;
    ck_assert_msg(helper_process_start(&spec, &helper, &err) == 0, "%s", err.msg);
}

static void start(const char *script)
{
    start_spec((struct helper_spec){0}, script);
}

static void wait_for_end(void)
{
    ck_assert_int_eq(helper_process_wait(helper, -1, PATIENCE_MS), -ESRCH);
}

/* It says something, and goes on. */
static void wait_for_line(void)
{
    while (helper_process_line(helper)[0] == '\0')
        ck_assert_int_eq(helper_process_wait(helper, -1, 10), -ETIMEDOUT);
}

/* What the script prints last. */
static const char *line_of(const char *script)
{
    start(script);
    wait_for_end();
    return helper_process_line(helper);
}

START_TEST(its_fate_and_last_line_are_told)
{
    start("echo first; echo 'the cause' >&2; exit 3");
    wait_for_end();
    ck_assert_str_eq(helper_process_fate(helper), "exit status 3: the cause");
    ck_assert(!helper_process_is_content(helper));
}
END_TEST

START_TEST(one_that_ends_without_a_word_is_content)
{
    start("exit 0");
    wait_for_end();
    ck_assert_str_eq(helper_process_fate(helper), "exit status 0");
    ck_assert(helper_process_is_content(helper));
}
END_TEST

START_TEST(a_signal_is_told)
{
    start("kill -9 $$");
    wait_for_end();
    ck_assert_str_eq(helper_process_fate(helper), "killed by signal 9");
    ck_assert(!helper_process_is_content(helper));
}
END_TEST

START_TEST(a_missing_program_is_an_error)
{
    const char *const names[] = {"minivmm-no-such-program", "/nowhere/program"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const char *const argv[] = {names[i], NULL};
        const struct helper_spec spec = {.name = "helper", .argv = argv};

        ck_assert_int_eq(helper_process_start(&spec, &helper, &err), -ENOENT);
        ck_assert_msg(strstr(err.msg, names[i]), "%s", err.msg);
    }
}
END_TEST

START_TEST(a_program_that_cannot_be_executed_is_an_error)
{
    const char *const argv[] = {scratch_path("program"), NULL};
    const struct helper_spec spec = {.name = "helper", .argv = argv};

    scratch_save("program", "no program", 10);
    ck_assert_int_eq(chmod(argv[0], 0755), 0);
    ck_assert_int_eq(helper_process_start(&spec, &helper, &err), -ENOEXEC);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left of it */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(an_empty_folder_of_the_path_is_not_this_one)
{
    const char *const argv[] = {"program", NULL};
    const struct helper_spec spec = {.name = "helper", .argv = argv};

    scratch_ok("cp /bin/true program");
    ck_assert_int_eq(chdir(scratch_path(".")), 0);
    ck_assert_int_eq(setenv("PATH", ":/usr/bin::/bin:", 1), 0);
    ck_assert_int_eq(helper_process_start(&spec, &helper, &err), -ENOENT);
}
END_TEST

/* ---- what it inherits ------------------------------------------------------------------------ */

START_TEST(it_has_the_descriptors_it_is_given_and_no_others)
{
    /* In numbers that are each other's, and one that is left open for nobody. */
    const int low[] = {dup2(open("/dev/zero", O_RDONLY), 4), dup2(open("/dev/full", O_RDONLY), 3)};
    int leaked = dup2(open("/dev/null", O_RDONLY), 17);

    ck_assert_int_eq(leaked, 17);
    start_spec((struct helper_spec){.fds = low, .nfds = 2},
               "cd /proc/$$/fd; for f in *; do [ $f -gt 9 ] || echo -n $f=$(readlink $f)' '; done;"
               "test ! -e 17 && echo");
    wait_for_end();
    ck_assert_msg(strstr(helper_process_line(helper), "3=/dev/zero 4=/dev/full "), "%s",
                  helper_process_line(helper));
    ck_assert_msg(strncmp(helper_process_line(helper), "0=/dev/null 1=pipe:", 19) == 0, "%s",
                  helper_process_line(helper));
    ck_assert(helper_process_is_content(helper));
    ck_assert_int_eq(fcntl(low[0], F_GETFD), 0); /* ours stay as they are */
}
END_TEST

static void ignore_it(int signo)
{
}

/* Signals 32 and 33 are the C library's own: it lets nobody set them, and itself ignores them. */
#define LIBRARY_SIGNALS (3ull << 31)

START_TEST(it_has_a_signal_mask_and_handlers_of_its_own)
{
    uint64_t blocked, ignored, caught;
    sigset_t set, now;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    ck_assert(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    ck_assert(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    ck_assert(signal(SIGUSR2, ignore_it) != SIG_ERR);
    ck_assert_int_eq(sscanf(line_of("sed -n '/^Sig[BIC]/p' /proc/self/status | tr -d '\\n\\t'"),
                            "SigBlk:%" SCNx64 "SigIgn:%" SCNx64 "SigCgt:%" SCNx64, &blocked,
                            &ignored, &caught),
                     3);
    ck_assert_uint_eq(blocked, 0);
    ck_assert_uint_eq(ignored & ~LIBRARY_SIGNALS, 1);
    ck_assert_uint_eq(caught & ~LIBRARY_SIGNALS, 0);
    /* Ours are as before. */
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &now), 0);
    ck_assert(sigismember(&now, SIGTERM) && !sigismember(&now, SIGINT));
    ck_assert(signal(SIGUSR2, SIG_DFL) == ignore_it);
}
END_TEST

/* Ctrl-C and kill of our process group are not for it, and the terminal is not its own. */
START_TEST(it_is_in_a_session_of_its_own)
{
    char expected[64];

    start("ps -o sid= $$ | tr -d ' '; ps -o tty= $$; exec sleep 1000");
    wait_for_line();
    snprintf(expected, sizeof(expected), "%d", getsid(0));
    ck_assert_str_ne(helper_process_line(helper), expected);
}
END_TEST

/* ---- what it prints -------------------------------------------------------------------------- */

START_TEST(a_flood_is_read_and_bounded)
{
    const char *line = line_of("head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'a\\033[1mb'");

    ck_assert_str_eq(line, "a?[1mb");
    helper_process_end(helper, 0);
    ck_assert_uint_eq(strlen(line_of("head -c 1000000 /dev/zero | tr '\\0' x")),
                      HELPER_LINE_MAX - 1);
}
END_TEST

static bool is_cause(const char *kept, const char *line)
{
    return !kept[0] && strncmp(line, "cause", 5) == 0;
}

START_TEST(the_line_that_tells_most_is_kept)
{
    start_spec((struct helper_spec){.tells_more = is_cause},
               "echo noise; echo cause 1; echo cause 2; echo usage");
    wait_for_end();
    ck_assert_str_eq(helper_process_line(helper), "cause 1");
}
END_TEST

START_TEST(an_end_is_noticed_though_a_child_of_it_keeps_the_output)
{
    char last[16];

    /* A session of its own: it does not end with the helper. */
    start("setsid sleep 1000 & until [ $(ps -o sid= $!) = $! ]; do :; done; echo $!");
    wait_for_end();
    snprintf(last, sizeof(last), "%s", helper_process_line(helper));
    ck_assert_int_gt(atoi(last), 1);
    ck_assert_int_eq(kill(atoi(last), SIGKILL), 0);
}
END_TEST

/* ---- waiting --------------------------------------------------------------------------------- */

START_TEST(waiting_ends_with_the_descriptor_the_end_or_the_time)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    start_spec((struct helper_spec){.fds = &fds[1], .nfds = 1},
               "read x <&0; echo x >&3; sleep 1000");
    close(fds[1]);
    ck_assert_int_eq(helper_process_wait(helper, fds[0], PATIENCE_MS), 0);
    ck_assert_int_eq(helper_process_wait(helper, -1, 20), -ETIMEDOUT);
    ck_assert_str_eq(helper_process_fate(helper), "runs");
    helper_process_end(helper, 0);
    start("exit 1");
    wait_for_end();
    close(fds[0]);
}
END_TEST

START_TEST(a_flood_does_not_make_waiting_longer)
{
    uint64_t before = monotonic_ns();

    start("while :; do echo flood; done");
    ck_assert_int_eq(helper_process_wait(helper, -1, 50), -ETIMEDOUT);
    ck_assert_uint_lt(monotonic_ns() - before, PATIENCE_MS * NS_PER_MS);
}
END_TEST

static unsigned nended;

static void note_end(void *opaque)
{
    ck_assert_ptr_eq(opaque, &nended);
    nended++;
    loop_stop(loop);
}

START_TEST(a_watched_one_is_read_and_its_end_told)
{
    start("head -c 1000000 /dev/zero | tr '\\0' '\\n'; echo done; exit 4");
    ck_assert_int_eq(helper_process_watch(helper, loop, note_end, &nended), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(nended, 1);
    ck_assert_str_eq(helper_process_fate(helper), "exit status 4: done");
    /* It has ended already: told again, to whoever watches then. */
    ck_assert_int_eq(helper_process_watch(helper, loop, note_end, &nended), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_uint_eq(nended, 2);
}
END_TEST

START_TEST(one_that_closes_its_output_is_watched_on)
{
    start("exec >&- 2>&-; sleep 0.1; exit 5");
    ck_assert_int_eq(helper_process_watch(helper, loop, note_end, &nended), 0);
    ck_assert_int_eq(loop_run(loop), 0);
    ck_assert_str_eq(helper_process_fate(helper), "exit status 5");
}
END_TEST

/* ---- the end --------------------------------------------------------------------------------- */

START_TEST(one_that_does_not_end_is_killed)
{
    start("trap '' TERM INT HUP; echo on; while :; do sleep 1000; done");
    helper_process_end(helper, 20);
    helper = NULL;
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* We inherit it: how it ended is ours to ask. */
static void check_killed(pid_t worker)
{
    int status;

    ck_assert_int_eq(waitpid(worker, &status, 0), worker);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* As the worker of a virtiofsd that hangs: no other signal would reach it. */
START_TEST(what_it_has_started_is_killed_with_it)
{
    pid_t worker;

    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    start("sleep 1000 & kill -STOP $!; echo $!; exec sleep 1000");
    wait_for_line();
    worker = atoi(helper_process_line(helper));
    helper_process_end(helper, 0);
    helper = NULL;
    check_killed(worker);
}
END_TEST

START_TEST(what_it_has_left_behind_is_killed)
{
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    start("sleep 1000 & kill -STOP $!; echo $!; exit 1");
    wait_for_end();
    check_killed(atoi(helper_process_line(helper)));
}
END_TEST

START_TEST(other_children_are_left_alone)
{
    pid_t other = fork();
    int status;

    if (other == 0)
        _exit(9);
    start("exit 1");
    wait_for_end();
    helper_process_end(helper, 0);
    helper = NULL;
    ck_assert_int_eq(waitpid(other, &status, 0), other);
    ck_assert_int_eq(WEXITSTATUS(status), 9);
}
END_TEST

START_TEST(its_end_is_noticed_where_children_are_nobodys)
{
    ck_assert(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    start("echo bye; exit 1");
    wait_for_end();
    ck_assert_str_eq(helper_process_fate(helper), "it has ended: bye");
}
END_TEST

static void *start_and_end(void *arg)
{
    start_spec((struct helper_spec){.death_signal = SIGTERM}, "sleep 1000");
    return NULL;
}

START_TEST(the_kernel_tells_it_that_its_starter_is_gone)
{
    pthread_t thread;

    ck_assert_int_eq(thread_start(&thread, "starter", start_and_end, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    wait_for_end();
    ck_assert_str_eq(helper_process_fate(helper), "killed by signal 15");
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(suite, "start", set_up, tear_down, its_fate_and_last_line_are_told,
                   one_that_ends_without_a_word_is_content, a_signal_is_told,
                   a_missing_program_is_an_error, a_program_that_cannot_be_executed_is_an_error,
                   an_empty_folder_of_the_path_is_not_this_one);
    unit_case_with(suite, "inherited", set_up, tear_down,
                   it_has_the_descriptors_it_is_given_and_no_others,
                   it_has_a_signal_mask_and_handlers_of_its_own, it_is_in_a_session_of_its_own);
    unit_case_with(suite, "output", set_up, tear_down, a_flood_is_read_and_bounded,
                   the_line_that_tells_most_is_kept,
                   an_end_is_noticed_though_a_child_of_it_keeps_the_output);
    unit_case_with(suite, "waiting", set_up, tear_down,
                   waiting_ends_with_the_descriptor_the_end_or_the_time,
                   a_flood_does_not_make_waiting_longer, a_watched_one_is_read_and_its_end_told,
                   one_that_closes_its_output_is_watched_on);
    unit_case_with(suite, "end", set_up, tear_down, one_that_does_not_end_is_killed,
                   what_it_has_started_is_killed_with_it, what_it_has_left_behind_is_killed,
                   other_children_are_left_alone, its_end_is_noticed_where_children_are_nobodys,
                   the_kernel_tells_it_that_its_starter_is_gone);
}

UNIT_USES_THREADS;
UNIT_MAIN("helper_process", add_tests)
