/* SPDX-License-Identifier: Apache-2.0 */
#include "base/helper_process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* ThreadSanitizer takes clone for fork, and forgets about threads then; but not by this name. */
#ifdef __SANITIZE_THREAD__
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

/* What a child needs between clone and exec: a few small frames; sanitizers multiply that. */
#define CHILD_STACK_SIZE (64u << 10)

/* So much of its output is read in one go; more is read in the next round. */
#define OUTPUT_READ_MAX 4096u

struct helper_process {
    const char *name;
    bool (*tells_more)(const char *kept, const char *line);
    int pidfd;
    pid_t pid; /* its group's number too, until it is waited for */
    bool ended;
    siginfo_t status; /* once it has ended; si_pid 0: somebody else has taken it */

    int output;                 /* what it prints comes out here; -1: it has closed it */
    char line[HELPER_LINE_MAX]; /* being read, without its end */
    size_t line_len;
    char kept[HELPER_LINE_MAX];
    char fate[HELPER_LINE_MAX + 64];

    struct loop_fd watch_end; /* of `pidfd` */
    struct loop_fd watch_output;
    void (*on_end)(void *opaque);
    void *opaque;
};

/* ---- the child, until it executes the program ------------------------------------------------ */

struct launch {
    const struct helper_spec *spec;
    const char *path;
    pid_t parent;
    int output;
    int error; /* out: errno, if the program was not executed */
};

/* What the system call behind sigaction takes and gives. */
struct kernel_action {
    void (*handler)(int signo);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/*
 * Whatever handler there is, it is ours, and so is the C library's (or a sanitizer's) memory of it,
 * which we would change with sigaction. What whoever started us wants ignored stays so.
 */
NO_SANITIZE static void reset_signals(void)
{
    const struct kernel_action to_default = {.handler = SIG_DFL};
    struct kernel_action action;
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++) {
        if (syscall(SYS_rt_sigaction, signo, NULL, &action, sizeof(action.mask)) == 0 &&
            action.handler != SIG_DFL && (action.handler != SIG_IGN || signo == SIGPIPE))
            (void)syscall(SYS_rt_sigaction, signo, &to_default, NULL, sizeof(action.mask));
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptors 0 to 2, then those that were asked for, and no others. 0 or -1 with errno. */
NO_SANITIZE static int arrange_fds(const struct launch *launch)
{
    const unsigned first = STDERR_FILENO + 1;
    const unsigned end = first + launch->spec->nfds;
    int moved[HELPER_FDS_MAX];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -1;
    /* Out of the way first: one may have the number that another one is to get. */
    for (unsigned i = 0; i < launch->spec->nfds; i++) {
        moved[i] = fcntl(launch->spec->fds[i], F_DUPFD_CLOEXEC, (int)end);
        if (moved[i] < 0)
            return -1;
    }
    if (dup2(null, STDIN_FILENO) < 0 || dup2(launch->output, STDOUT_FILENO) < 0 ||
        dup2(launch->output, STDERR_FILENO) < 0)
        return -1;
    for (unsigned i = 0; i < launch->spec->nfds; i++) {
        if (dup2(moved[i], (int)(first + i)) < 0)
            return -1;
    }
    /* Linux before 5.9 cannot: there it keeps what was left open for us. */
    (void)close_range(end, UINT_MAX, 0);
    return 0;
}

/*
 * It shares all memory with the parent, which waits: it may only call what a signal handler may,
 * and must leave nothing behind but `error`.
 */
NO_SANITIZE static int child_main(void *opaque)
{
    struct launch *launch = opaque;

    /* A group of its own: Ctrl-C and job control are not for it; nor is the terminal. */
    (void)setsid();
    if (launch->spec->death_signal) {
        (void)prctl(PR_SET_PDEATHSIG, launch->spec->death_signal);
        if (getppid() != launch->parent) /* too late for it: the kernel sends nothing any more */
            _exit(EXIT_FAILURE);
    }
    if (arrange_fds(launch) == 0) {
        reset_signals();
        (void)execve(launch->path, (char *const *)launch->spec->argv, environ);
    }
    launch->error = errno;
    _exit(EXIT_FAILURE);
}

/* ---- starting it ----------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

/* The program that `name` means, in `path`. 0, -ENOENT, or -EACCES: it may not be executed. */
static int find_program(const char *name, char path[PATH_MAX])
{
    const char *dirs = getenv("PATH");
    int len;

    if (strchr(name, '/')) {
        if ((size_t)snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
            return -ENAMETOOLONG;
        return is_program(path) ? 0 : -errno;
    }
    for (const char *dir = dirs ? dirs : "/usr/bin:/bin"; dir; dir = strchr(dir, ':')) {
        dir += *dir == ':';
        len = (int)strcspn(dir, ":");
        /* An empty one would be the current folder, which nobody means. */
        if (len > 0 && snprintf(path, PATH_MAX, "%.*s/%s", len, dir, name) < PATH_MAX &&
            is_program(path))
            return 0;
    }
    return -ENOENT;
}

/*
 * As vfork, with a stack of its own. Until the program is executed, this thread waits, and no
 * signal handler runs in the child, for it would run in our memory.
 */
static pid_t clone_child(struct launch *launch, int *ret_pidfd)
{
    uint8_t *stack = mmap(NULL, CHILD_STACK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    sigset_t all, before;
    pid_t pid;

    if (stack == MAP_FAILED)
        return -ENOMEM;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    pid = clone(child_main, stack + CHILD_STACK_SIZE,
                CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, launch, ret_pidfd);
    if (pid < 0)
        pid = -errno;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)munmap(stack, CHILD_STACK_SIZE); /* our own: cannot fail */
    return pid;
}

/* Wait for a child that has ended or is about to. */
static void take_status(struct helper_process *helper)
{
    int r;

    do
        r = waitid(P_PIDFD, (id_t)helper->pidfd, &helper->status, WEXITED);
    while (r < 0 && errno == EINTR);
    if (r < 0) /* who ignores SIGCHLD is told nothing */
        memset(&helper->status, 0, sizeof(helper->status));
    helper->ended = true;
}

static int launch_program(struct helper_process *helper, const struct helper_spec *spec,
                          const char *path, int output)
{
    struct launch launch = {.spec = spec, .path = path, .parent = getpid(), .output = output};

    helper->pid = clone_child(&launch, &helper->pidfd);
    if (helper->pid < 0)
        return helper->pid;
    if (launch.error) {
        take_status(helper);
        close(helper->pidfd);
    }
    return -launch.error;
}

static int start_at(struct helper_process *helper, const struct helper_spec *spec, const char *path)
{
    int output[2];
    int r;

    if (pipe2(output, O_CLOEXEC) < 0)
        return -errno;
    /* Ours alone: what it writes on must wait. */
    if (fcntl(output[0], F_SETFL, O_NONBLOCK) < 0)
        r = -errno;
    else
        r = launch_program(helper, spec, path, output[1]);
    close(output[1]);
    helper->output = output[0];
    if (r < 0)
        close(output[0]);
    return r;
}

int helper_process_start(const struct helper_spec *spec, struct helper_process **ret_helper,
                         struct err *err)
{
    struct helper_process *helper;
    char path[PATH_MAX];
    int r;

    assert(spec->nfds <= HELPER_FDS_MAX);
    r = find_program(spec->argv[0], path);
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot be started", spec->argv[0]);
    helper = calloc(1, sizeof(*helper));
    if (!helper)
        return err_set(err, -ENOMEM, "%s: out of memory", path);
    helper->name = spec->name;
    helper->tells_more = spec->tells_more;
    r = start_at(helper, spec, path);
    if (r < 0) {
        free(helper);
        return err_set_errno(err, r, "%s: cannot be started", path);
    }
    *ret_helper = helper;
    return 0;
}

/* ---- what it prints -------------------------------------------------------------------------- */

static void end_line(struct helper_process *helper)
{
    if (helper->line_len == 0)
        return;
    helper->line[helper->line_len] = '\0';
    helper->line_len = 0;
    text_replace_control(helper->line);
    log_debug("%s: %s", helper->name, helper->line);
    if (!helper->tells_more || helper->tells_more(helper->kept, helper->line))
        memcpy(helper->kept, helper->line, sizeof(helper->kept));
}

static void take_output(struct helper_process *helper, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n')
            end_line(helper);
        else if (helper->line_len < sizeof(helper->line) - 1)
            helper->line[helper->line_len++] = text[i];
    }
}

static void close_output(struct helper_process *helper)
{
    if (helper->output < 0)
        return;
    end_line(helper); /* one that lacks its end */
    loop_remove_fd(&helper->watch_output);
    close(helper->output);
    helper->output = -1;
}

/* Read once. Was there something? */
static bool read_output(struct helper_process *helper)
{
    char text[OUTPUT_READ_MAX];
    ssize_t n = read(helper->output, text, sizeof(text));

    if (n > 0)
        take_output(helper, text, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        close_output(helper);
    return n > 0;
}

/*
 * It has ended: what it printed is in the pipe. A process that it left behind may write more, so
 * there is a bound: what a pipe holds by default.
 */
static void read_rest(struct helper_process *helper)
{
    for (unsigned i = 0; i < (64u << 10) / OUTPUT_READ_MAX && helper->output >= 0; i++) {
        if (!read_output(helper))
            break;
    }
    close_output(helper);
}

/* ---- its end --------------------------------------------------------------------------------- */

/*
 * Kill it, and what it has started: they are one group, which it leads. Until it is waited for, its
 * number is nobody else's; where SIGCHLD is ignored it may have been: then nobody is killed.
 */
static void kill_group(const struct helper_process *helper)
{
    if (syscall(SYS_pidfd_send_signal, helper->pidfd, 0, NULL, 0) == 0)
        (void)kill(-helper->pid, SIGKILL);
}

/* It ends, and so does what it leaves behind: a worker, which may hang. */
static void note_end(struct helper_process *helper)
{
    if (helper->ended)
        return;
    kill_group(helper);
    take_status(helper);
    read_rest(helper);
}

static int remaining_ms(uint64_t deadline_ns)
{
    uint64_t now = monotonic_ns();

    return now >= deadline_ns ? 0 : (int)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

int helper_process_wait(struct helper_process *helper, int fd, int timeout_ms)
{
    const uint64_t deadline_ns = monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;

    while (!helper->ended) {
        const int left_ms = remaining_ms(deadline_ns);
        struct pollfd fds[] = {{.fd = helper->pidfd, .events = POLLIN},
                               {.fd = helper->output, .events = POLLIN},
                               {.fd = fd, .events = POLLIN}};

        if (poll(fds, ARRAY_SIZE(fds), left_ms) < 0 && errno != EINTR)
            return -errno;
        if (fds[0].revents) {
            note_end(helper);
            break;
        }
        if (fds[2].revents)
            return 0;
        if (fds[1].revents)
            (void)read_output(helper); /* what there was */
        if (left_ms == 0)
            return -ETIMEDOUT;
    }
    return -ESRCH;
}

static void output_ready(struct loop_fd *watch, uint32_t events)
{
    (void)read_output(
        container_of(watch, struct helper_process, watch_output)); /* what there was */
}

static void end_ready(struct loop_fd *watch, uint32_t events)
{
    struct helper_process *helper = container_of(watch, struct helper_process, watch_end);

    helper_process_unwatch(helper);
    note_end(helper);
    helper->on_end(helper->opaque);
}

int helper_process_watch(struct helper_process *helper, struct loop *loop,
                         void (*ended)(void *opaque), void *opaque)
{
    int r = 0;

    helper->on_end = ended;
    helper->opaque = opaque;
    helper->watch_end =
        (struct loop_fd){.fd = helper->pidfd, .events = EPOLLIN, .ready = end_ready};
    helper->watch_output =
        (struct loop_fd){.fd = helper->output, .events = EPOLLIN, .ready = output_ready};
    if (helper->output >= 0)
        r = loop_add_fd(loop, &helper->watch_output);
    if (r == 0)
        r = loop_add_fd(loop, &helper->watch_end); /* readable at once if it has ended */
    if (r < 0)
        helper_process_unwatch(helper);
    return r;
}

void helper_process_unwatch(struct helper_process *helper)
{
    loop_remove_fd(&helper->watch_output);
    loop_remove_fd(&helper->watch_end);
}

const char *helper_process_fate(struct helper_process *helper)
{
    const siginfo_t *status = &helper->status;
    const char *line = helper->kept;
    char how[48] = "it has ended"; /* more is not known */

    if (!helper->ended)
        return "runs";
    if (status->si_pid != 0 && status->si_code == CLD_EXITED)
        (void)snprintf(how, sizeof(how), "exit status %d", status->si_status);
    else if (status->si_pid != 0) {
        (void)snprintf(how, sizeof(how), "killed by signal %d", status->si_status);
        line = ""; /* whatever it said, that was not why */
    }
    (void)snprintf(helper->fate, sizeof(helper->fate), "%s%s%s", how, line[0] ? ": " : "", line);
    return helper->fate;
}

bool helper_process_is_content(const struct helper_process *helper)
{
    return helper->ended && helper->status.si_code == CLD_EXITED && helper->status.si_status == 0;
}

const char *helper_process_line(const struct helper_process *helper)
{
    return helper->kept;
}

void helper_process_end(struct helper_process *helper, int patience_ms)
{
    if (!helper)
        return;
    helper_process_unwatch(helper);
    if (helper_process_wait(helper, -1, patience_ms) != -ESRCH)
        note_end(helper);
    close(helper->pidfd);
    free(helper);
}
