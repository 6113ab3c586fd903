/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/thread.h"
#include "tests/lib/tty.h"
#include "tests/lib/unit.h"
#include "vmm/console/terminal.h"
#include "vmm/process/crash.h"

/* A process with a terminal of its own, as under a shell: raw, and then it does `then`. */
static pid_t start_job(int *ret_master, void (*then)(void))
{
    int master;
    pid_t pid = forkpty(&master, NULL, NULL, NULL);

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (terminal_make_raw(STDIN_FILENO) < 0)
            _exit(99);
        if (write(STDOUT_FILENO, "!", 1) != 1) /* ready */
            _exit(98);
        then();
        _exit(97);
    }
    *ret_master = master;
    return pid;
}

static void press_key(int master)
{
    ck_assert_int_eq(write(master, "k", 1), 1);
}

static void wait_ready(int master)
{
    char ready;

    ck_assert_int_eq(read(master, &ready, 1), 1);
    ck_assert_int_eq(ready, '!');
}

static void wait_for_key(void)
{
    char key;

    (void)!read(STDIN_FILENO, &key, 1);
}

static void then_exit(void)
{
    wait_for_key();
    exit(0); /* not _exit: what atexit registered runs */
}

static void then_abort(void)
{
    crash_set_up();
    wait_for_key();
    abort();
}

/* In steps too small to miss a guard page; what follows the call keeps it from becoming a loop. */
static unsigned exhaust_stack(unsigned depth) // NOLINT(misc-no-recursion)
{
    volatile uint8_t frame[1024];

    frame[depth % sizeof(frame)] = (uint8_t)depth;
    return depth == UINT_MAX ? 0 : exhaust_stack(depth + 1) + frame[depth % sizeof(frame)];
}

static void *exhaust_thread(void *arg)
{
    exhaust_stack(0);
    return NULL;
}

static void then_exhaust_stack(void)
{
    crash_set_up();
    wait_for_key();
    exhaust_stack(0);
}

static void then_exhaust_thread(void)
{
    pthread_t thread;

    crash_set_up();
    wait_for_key();
    if (thread_start(&thread, "deep", exhaust_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

static void then_wait(void)
{
    for (;;)
        pause();
}

/* The settings of the pty, seen from its master, reach a state. */
#define wait_terminal(master, is)                                                                  \
    do {                                                                                           \
        for (unsigned i_ = 0; i_ < 2000 && !is(master); i_++)                                      \
            usleep(1000);                                                                          \
        ck_assert(is(master));                                                                     \
    } while (0)

START_TEST(terminal_is_restored_on_exit)
{
    int master;
    pid_t pid;
    int status;

    pid = start_job(&master, then_exit);
    wait_ready(master);
    ck_assert(tty_is_raw(master));
    press_key(master);
    wait_terminal(master, tty_is_cooked);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
}
END_TEST

START_TEST(terminal_is_restored_on_a_crash)
{
    static const struct {
        void (*then)(void);
        int signo;
    } crashes[] = {
        {then_abort, SIGABRT},
        {then_exhaust_stack, SIGSEGV},
        {then_exhaust_thread, SIGSEGV},
    };
    int master;
    pid_t pid;
    int status;

    pid = start_job(&master, crashes[_i].then);
    wait_ready(master);
    ck_assert(tty_is_raw(master));
    press_key(master);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), crashes[_i].signo);
    ck_assert(tty_is_cooked(master));
}
END_TEST

static void then_wait_for_signals(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    crash_set_up();
    wait_for_key();
    (void)!write(STDOUT_FILENO, "!", 1); /* from now on */
    for (;;)
        pause();
}

/*
 * All but SIGKILL and two that the C library uses between threads, which cannot be caught, those
 * that stop a process or do nothing, and SIGPIPE, which is ignored here.
 */
static bool ends_process(int signo)
{
    static const int others[] = {SIGKILL,  SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD,
                                 SIGWINCH, SIGURG,  SIGCONT, SIGPIPE, 32,      33};

    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (others[i] == signo)
            return false;
    return true;
}

START_TEST(terminal_is_restored_by_every_signal_that_ends)
{
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        int status = 0;
        int master;
        pid_t pid;

        if (!ends_process(signo))
            continue;
        pid = start_job(&master, then_wait_for_signals);
        wait_ready(master);
        press_key(master);
        wait_ready(master);
        ck_assert(tty_is_raw(master));
        kill(pid, signo);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status));
        ck_assert_int_eq(WTERMSIG(status), signo);
        ck_assert_msg(tty_is_cooked(master), "signal %d leaves the terminal raw", signo);
        close(master);
    }
}
END_TEST

START_TEST(terminal_is_raw_again_after_sigstop)
{
    struct termios cooked;
    int master;
    pid_t pid;
    int status;

    pid = start_job(&master, then_wait);
    wait_ready(master);
    kill(pid, SIGSTOP);
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    /* What a shell does when its job stopped. */
    ck_assert_int_eq(tcgetattr(master, &cooked), 0);
    cooked.c_lflag |= ICANON | ECHO | ISIG;
    cooked.c_oflag |= OPOST;
    ck_assert_int_eq(tcsetattr(master, TCSANOW, &cooked), 0);
    kill(pid, SIGCONT);
    wait_terminal(master, tty_is_raw);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

/* A shell with one job: stops it, and lets it go on in the foreground. */
static void run_shell(int report_fd, int command_fd)
{
    char command;
    pid_t job = fork();
    int status;

    if (job == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(STDIN_FILENO, getpid());
        signal(SIGTTOU, SIG_DFL);
        if (terminal_make_raw(STDIN_FILENO) < 0 || write(STDOUT_FILENO, "!", 1) != 1)
            _exit(99);
        then_wait();
    }
    signal(SIGTTOU, SIG_IGN);
    while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
        tcsetpgrp(STDIN_FILENO, getpid());
        if (write(report_fd, "s", 1) != 1 || read(command_fd, &command, 1) != 1)
            break;
        tcsetpgrp(STDIN_FILENO, job);
        kill(job, SIGCONT);
    }
    _exit(0);
}

START_TEST(terminal_is_the_shells_while_stopped)
{
    int report[2];
    int command[2];
    int master;
    pid_t shell;
    pid_t job;
    char byte;

    ck_assert_int_eq(pipe(report), 0);
    ck_assert_int_eq(pipe(command), 0);
    shell = forkpty(&master, NULL, NULL, NULL);
    if (shell == 0)
        run_shell(report[1], command[0]);
    wait_ready(master);
    ck_assert(tty_is_raw(master));
    ck_assert_int_eq(ioctl(master, TIOCGPGRP, &job), 0);
    ck_assert_int_ne(job, shell);

    kill(job, SIGTSTP);
    ck_assert_int_eq(read(report[0], &byte, 1), 1);
    ck_assert(tty_is_cooked(master));
    ck_assert_int_eq(write(command[1], "f", 1), 1);
    wait_terminal(master, tty_is_raw);

    kill(job, SIGKILL);
    waitpid(shell, NULL, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *crashes = tcase_create("crashes");

    unit_case(suite, "ways out", terminal_is_restored_on_exit,
              terminal_is_restored_by_every_signal_that_ends);
    tcase_add_loop_test(crashes, terminal_is_restored_on_a_crash, 0, 3);
    suite_add_tcase(suite, crashes);
    unit_case(suite, "job control", terminal_is_raw_again_after_sigstop,
              terminal_is_the_shells_while_stopped);
}

UNIT_USES_THREADS;
UNIT_MAIN("terminal", add_tests)
