/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/scratch.h"

#define EXIT_SKIPPED 77

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* The path of this program, build/CONFIG/tests/guest/test_foo, without its last `n` names. */
static void path_above(unsigned n, char path[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (len < 0)
        die("/proc/self/exe");
    path[len] = '\0';
    for (unsigned i = 0; i < n; i++) {
        char *slash = strrchr(path, '/');

        if (slash)
            *slash = '\0';
    }
}

/* build/CONFIG/minivmm, unless $MINIVMM says otherwise. */
static const char *program(void)
{
    static char path[PATH_MAX + sizeof("/minivmm")];
    const char *override = getenv("MINIVMM");
    char folder[PATH_MAX];

    if (override)
        return override;
    path_above(3, folder);
    snprintf(path, sizeof(path), "%s/minivmm", folder);
    return path;
}

char *vm_read_source(const char *path)
{
    char full[2 * PATH_MAX];
    char root[PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    FILE *file;

    path_above(5, root);
    snprintf(full, sizeof(full), "%s/%s", root, path);
    file = fopen(full, "re");
    if (!file || getdelim(&text, &size, '\0', file) < 0)
        die(full);
    (void)fclose(file);
    return text;
}

void vm_require(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        printf("/dev/kvm: %s\n", strerror(errno));
        exit(EXIT_SKIPPED);
    }
    close(fd);
    if (access(program(), X_OK) < 0) {
        printf("%s: %s\n", program(), strerror(errno));
        exit(EXIT_SKIPPED);
    }
}

bool vm_has_direct_io(void)
{
    int fd = open(scratch_path("direct"), O_CREAT | O_RDWR | O_DIRECT, 0600);

    if (fd < 0) {
        printf("/tmp: no direct I/O there: cache=none is not tested\n");
        return false;
    }
    close(fd);
    return true;
}

static void exec_child(int in, int out, int err, const char *const args[],
                       const struct vm_setup *setup)
{
    const char *argv[VM_ARGS_MAX + 2] = {program()};
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC); /* in_child may take away the way to it */

    for (size_t i = 0; args[i] && i < VM_ARGS_MAX; i++)
        argv[i + 1] = args[i];
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    /* nohup, or a script with the tests in the background, ignores them; minivmm would go along */
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    if (setup->in_child)
        setup->in_child();
    /* Does not outlive a test that is stopped half-way. Changing the user would clear this. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* For the debugger of vm_print_threads, where the host lets only parents debug. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    if (setup->in_child)
        fexecve(fd, (char *const *)argv, environ);
    else
        execv(argv[0], (char *const *)argv);
    _exit(127);
}

void vm_start(struct vm *vm, const char *const args[])
{
    static const struct vm_setup usual;

    vm_start_with(vm, args, &usual);
}

void vm_start_with(struct vm *vm, const char *const args[], const struct vm_setup *setup)
{
    int in[2], out[2], err[2];

    memset(vm, 0, sizeof(*vm));
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        die("pipe");
    vm->pid = fork();
    if (vm->pid < 0)
        die("fork");
    if (vm->pid == 0)
        exec_child(setup->terminal ? setup->terminal : in[0], out[1], err[1], args, setup);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    vm->in = in[1];
    vm->out.fd = out[0];
    vm->err.fd = err[0];
}

void vm_send(struct vm *vm, const void *data, size_t len)
{
    if (write(vm->in, data, len) != (ssize_t)len)
        die("write to minivmm");
}

void vm_close_input(struct vm *vm)
{
    if (vm->in >= 0)
        close(vm->in);
    vm->in = -1;
}

static void read_stream(struct vm_stream *stream)
{
    char buf[4096];
    ssize_t n = read(stream->fd, buf, sizeof(buf));

    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        close(stream->fd);
        stream->fd = -1;
        return;
    }
    stream->data = realloc(stream->data, stream->len + (size_t)n + 1);
    if (!stream->data)
        die("realloc");
    memcpy(stream->data + stream->len, buf, (size_t)n);
    stream->len += (size_t)n;
    stream->data[stream->len] = '\0';
}

/* Read what is there, waiting for it up to the deadline. False: time is up or both have ended. */
static bool read_more(struct vm *vm, uint64_t deadline_ns)
{
    struct pollfd fds[] = {{.fd = vm->out.fd, .events = POLLIN},
                           {.fd = vm->err.fd, .events = POLLIN}};
    uint64_t now = monotonic_ns();

    if (now >= deadline_ns || (vm->out.fd < 0 && vm->err.fd < 0))
        return false;
    if (poll(fds, 2, (int)((deadline_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
        die("poll");
    if (fds[0].revents)
        read_stream(&vm->out);
    if (fds[1].revents)
        read_stream(&vm->err);
    return true;
}

static uint64_t deadline(void)
{
    return monotonic_ns() + VM_TIMEOUT_S * 1000ull * NS_PER_MS;
}

static bool contains(const struct vm_stream *stream, const char *text)
{
    return stream->data && memmem(stream->data, stream->len, text, strlen(text));
}

static bool wait_for(struct vm *vm, const struct vm_stream *stream, const char *text)
{
    uint64_t until = deadline();

    while (!contains(stream, text))
        if (stream->fd < 0 || !read_more(vm, until))
            return false;
    return true;
}

bool vm_wait_output(struct vm *vm, const char *text)
{
    return wait_for(vm, &vm->out, text);
}

bool vm_wait_error(struct vm *vm, const char *text)
{
    return wait_for(vm, &vm->err, text);
}

const char *vm_errors(const struct vm *vm)
{
    return vm->err.data ? vm->err.data : "";
}

bool vm_wait_output_len(struct vm *vm, size_t len)
{
    uint64_t until = deadline();

    while (vm->out.len < len)
        if (vm->out.fd < 0 || !read_more(vm, until))
            return false;
    return true;
}

/* Their stacks if a debugger is there, and what each waits for in the kernel. */
void vm_print_threads(const struct vm *vm)
{
    char command[512];

    snprintf(command, sizeof(command),
             "{ pid=%d; for t in /proc/$pid/task/*; do"
             " echo $t $(cat $t/comm $t/wchan $t/syscall); done;"
             " if command -v gdb >/dev/null;"
             " then gdb -nx -batch -p $pid -ex 'thread apply all backtrace';"
             " elif command -v eu-stack >/dev/null; then eu-stack -p $pid;"
             " else echo 'no gdb and no eu-stack: no stacks'; fi; } >&2 2>&1",
             (int)vm->pid);
    (void)!system(command);
}

int vm_wait(struct vm *vm)
{
    uint64_t until = deadline();
    bool hangs = false;
    int status;

    while (read_more(vm, until))
        ;
    /* Its streams end when it ends; open ones mean that time is up. */
    if (vm->out.fd >= 0 || vm->err.fd >= 0) {
        vm_print_threads(vm);
        kill(vm->pid, SIGKILL);
        hangs = true;
    }
    if (waitpid(vm->pid, &status, 0) < 0)
        die("waitpid");
    vm->pid = -1;
    if (hangs)
        return VM_HANGS;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int vm_run(struct vm *vm, const char *const args[])
{
    vm_start(vm, args);
    return vm_wait(vm);
}

void vm_done(struct vm *vm)
{
    if (vm->pid > 0) {
        kill(vm->pid, SIGKILL);
        waitpid(vm->pid, NULL, 0);
    }
    vm_close_input(vm);
    if (vm->out.fd >= 0)
        close(vm->out.fd);
    if (vm->err.fd >= 0)
        close(vm->err.fd);
    free(vm->out.data);
    free(vm->err.data);
}
