/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/terminal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

/* Written once, before `wanted` is set: signal handlers only read it. */
static struct {
    int fd;
    struct termios saved;
    struct termios raw;
    bool has_stderr; /* our own lines go to a terminal, too, so they need "\r\n" */
} terminal;

/* Who wants to know of another size. Main thread, but for `fd`, which signal handlers write to. */
static struct {
    atomic_int fd; /* eventfd + 1; 0: nobody */
    struct loop_fd watch;
    void (*resized)(void *opaque);
    void *opaque;
} size_watch;

static atomic_bool wanted; /* the terminal should be raw while we are in the foreground */
static atomic_bool is_raw;

/*
 * May we change its settings? Not from the background: they are the shell's then. A terminal that
 * is not our controlling one has no foreground that we could know of.
 */
static bool in_foreground(void)
{
    pid_t group = tcgetpgrp(terminal.fd);

    return group < 0 || group == getpgrp();
}

/* Async-signal-safe, as tcsetattr is. */
static void apply(bool raw)
{
    sigset_t ttou;
    sigset_t old;

    if (atomic_load(&is_raw) == raw || !in_foreground())
        return;
    /* We may become a background process just now; SIGTTOU would stop us then. */
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    (void)pthread_sigmask(SIG_BLOCK, &ttou, &old);
    if (tcsetattr(terminal.fd, TCSANOW, raw ? &terminal.raw : &terminal.saved) == 0) {
        atomic_store(&is_raw, raw);
        log_set_raw_terminal(raw && terminal.has_stderr);
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void terminal_restore(void)
{
    int saved_errno = errno;

    if (atomic_exchange(&wanted, false))
        apply(false);
    errno = saved_errno;
}

void terminal_refresh(void)
{
    if (atomic_load(&wanted))
        apply(true);
}

/* Async-signal-safe. */
static void poke_size_watch(void)
{
    int fd = atomic_load(&size_watch.fd) - 1;

    if (fd >= 0)
        (void)eventfd_write(fd, 1);
}

static void on_resize_signal(int signo)
{
    int saved_errno = errno;

    poke_size_watch();
    errno = saved_errno;
}

/* Put the terminal back, stop as anybody would, and go on where SIGCONT lets us. */
static void on_stop_signal(int signo)
{
    struct sigaction stop = {.sa_handler = SIG_DFL};
    struct sigaction ours;
    int saved_errno = errno;
    sigset_t set;

    apply(false);
    sigemptyset(&set);
    sigaddset(&set, signo);
    (void)sigaction(signo, &stop, &ours);
    (void)raise(signo);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* here we stop */
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)sigaction(signo, &ours, NULL);
    terminal_refresh();
    errno = saved_errno;
}

/* Also after SIGSTOP, which nobody can catch: the shell has put its own settings in place then. */
static void on_continue_signal(int signo)
{
    int saved_errno = errno;

    atomic_store(&is_raw, false);
    terminal_refresh();
    poke_size_watch(); /* who was stopped was not told */
    errno = saved_errno;
}

/* Handle a signal of job control unless the parent wants it ignored. */
static int catch_signal(int signo, void (*handler)(int signo))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction old;

    if (sigaction(signo, NULL, &old) < 0)
        return -errno;
    if (old.sa_handler == SIG_IGN)
        return 0;
    sigemptyset(&action.sa_mask);
    return sigaction(signo, &action, NULL) < 0 ? -errno : 0;
}

static int set_up_once(void)
{
    static bool done;
    int r;

    if (done)
        return 0;
    r = catch_signal(SIGTSTP, on_stop_signal);
    if (r == 0)
        r = catch_signal(SIGCONT, on_continue_signal);
    if (r == 0 && atexit(terminal_restore) != 0)
        r = -ENOMEM;
    done = r == 0;
    return r;
}

static void on_poked(struct loop_fd *watch, uint32_t events)
{
    eventfd_t count;

    if (eventfd_read(watch->fd, &count) == 0)
        size_watch.resized(size_watch.opaque);
}

int terminal_watch_size(struct loop *loop, void (*resized)(void *opaque), void *opaque)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r;

    if (fd < 0)
        return -errno;
    size_watch.watch = (struct loop_fd){.fd = fd, .events = EPOLLIN, .ready = on_poked};
    size_watch.resized = resized;
    size_watch.opaque = opaque;
    r = loop_add_fd(loop, &size_watch.watch);
    if (r == 0)
        r = catch_signal(SIGWINCH, on_resize_signal);
    if (r < 0) {
        loop_remove_fd(&size_watch.watch);
        close(fd);
        return r;
    }
    atomic_store(&size_watch.fd, fd + 1);
    return 0;
}

/* A handler that runs just now on another thread may still write to the eventfd: it stays open. */
void terminal_unwatch_size(void)
{
    if (atomic_exchange(&size_watch.fd, 0) > 0)
        loop_remove_fd(&size_watch.watch);
}

int terminal_make_raw(int fd)
{
    int r;

    if (tcgetattr(fd, &terminal.saved) < 0)
        return -errno;
    terminal.fd = fd;
    terminal.has_stderr = isatty(STDERR_FILENO);
    terminal.raw = terminal.saved;
    /*
     * No echo, no lines, no signals, no translation in either direction: the guest's own terminal
     * driver does all that, and doing it twice breaks full-screen programs.
     */
    cfmakeraw(&terminal.raw);

    r = set_up_once();
    if (r < 0)
        return r;
    atomic_store(&wanted, true);
    terminal_refresh();
    return 0;
}
