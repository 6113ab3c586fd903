/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minivmm-ctl NAME console: the serial port on this terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "ctl/answer.h"
#include "ctl/command.h"
#include "ctl/facts.h"
#include "ctl/message.h"
#include "ctl/process.h"
#include "ctl/relay.h"
#include "ctl/socket.h"
#include "ctl/target.h"

#define DETACH_KEY 0x1d /* Ctrl-] */

#define UNIX_PREFIX "unix:"
#define PTY_PREFIX "pty:"
#define PTY_FOLDER "/dev/pts/"
#define WAITING_PREFIX "disconnected:" /* as QEMU says that nobody is there yet */

/* Bytes, with colours and the like. */
#define SCREENFUL 8192

struct serial {
    int fd;
    json_t *shown; /* what is printed first, or NULL */
};

/*
 * The path in "unix:PATH,server=on", as the VM's process means it; to be freed. A comma in it is
 * taken for the end of it, as what QEMU says is not unambiguous.
 */
static char *socket_path(const char *filename, pid_t pid)
{
    const char *path = filename + strlen(UNIX_PREFIX);
    int len = (int)strcspn(path, ",");
    char *whole = NULL;
    int n = path[0] == '/' ? asprintf(&whole, "%.*s", len, path)
                           : asprintf(&whole, "/proc/%d/cwd/%.*s", pid, len, path);

    return n < 0 ? NULL : whole;
}

/*
 * What a VM calls its serial port is to be one: keys go there, maybe passwords. So whoever listens,
 * or has the other end of a pseudo-terminal, has to be the process that we asked.
 */
static int open_unix(const char *filename, pid_t pid, int *ret_fd, struct err *err)
{
    char *path = socket_path(filename, pid);
    pid_t listener = 0;
    int fd = -1;
    int r;

    if (!path)
        return err_set(err, -ENOMEM, "out of memory");
    r = socket_connect(path, monotonic_ns() + ANSWER_MS * NS_PER_MS, &fd, &listener, err);
    if (r < 0)
        err_prefix(err, "serial port");
    if (r == -ETIMEDOUT)
        r = err_set(err, r, "%s: the serial port has a client, and others wait", path);
    if (r == 0 && listener != pid) {
        r = err_set(err, -EPROTO,
                    "%s: process %d listens there, and not the VM, which is process %d", path,
                    listener, pid);
        close(fd);
    }
    free(path);
    *ret_fd = fd;
    return r;
}

static int open_pty(const char *filename, pid_t pid, int *ret_fd, struct err *err)
{
    const char *path = filename + strlen(PTY_PREFIX);
    uint64_t index;
    int fd;

    if (strncmp(path, PTY_FOLDER, strlen(PTY_FOLDER)) != 0 ||
        parse_u64(path + strlen(PTY_FOLDER), &index) < 0 || index > UINT_MAX ||
        !process_has_pty(pid, (unsigned)index))
        return err_set(err, -EPROTO,
                       "%s: expected a pseudo-terminal of the VM, which is process %d", path, pid);
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, -errno, "serial port: %s", path);
    *ret_fd = fd;
    return 0;
}

static int open_serial(const char *filename, pid_t pid, int *ret_fd, struct err *err)
{
    if (strncmp(filename, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
        return open_unix(filename, pid, ret_fd, err);
    if (strncmp(filename, PTY_PREFIX, strlen(PTY_PREFIX)) == 0)
        return open_pty(filename, pid, ret_fd, err);
    return err_set(
        err, CTL_REMOTE_ERROR,
        "the serial port is at '%s', where nobody can attach: start the VM with --serial "
        "unix:PATH or --console unix:PATH",
        filename);
}

static bool can_attach(const char *filename)
{
    return filename && (strncmp(filename, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0 ||
                        strncmp(filename, PTY_PREFIX, strlen(PTY_PREFIX)) == 0);
}

/* The serial port, or the console if only that is where somebody can attach. */
static const char *choose_port(const json_t *chardevs, const char **ret_label)
{
    const char *serial = facts_serial(chardevs);
    const char *console = answer_text(facts_port(chardevs, "console0"), "filename");
    bool takes_console = serial && strncmp(serial, WAITING_PREFIX, strlen(WAITING_PREFIX)) != 0 &&
                         !can_attach(serial) && can_attach(console);

    *ret_label = takes_console ? "console0" : "serial0";
    return takes_console ? console : serial;
}

/*
 * The last screenful of what a pseudo-terminal showed, to be freed; NULL: it is not known. A socket
 * sends that itself.
 */
static json_t *ask_shown(struct link *link, const char *label, const char *filename)
{
    json_t *arguments;
    json_t *shown = NULL;
    struct err err;

    if (strncmp(filename, PTY_PREFIX, strlen(PTY_PREFIX)) != 0)
        return NULL;
    arguments = json_pack("{s:s,s:i}", "device", label, "size", SCREENFUL);
    return link_ask(link, "ringbuf-read", arguments, &shown, &err) < 0 ? NULL : shown;
}

/* It is asked for what was shown first: what comes after that is read by us. */
static int open_known(struct link *link, const json_t *chardevs, struct serial *ret_serial,
                      struct err *err)
{
    const char *label;
    const char *filename = choose_port(chardevs, &label);
    pid_t pid = link_pid(link);
    int r;

    if (!filename)
        return err_set(err, CTL_REMOTE_ERROR, "the VM does not tell where its serial port is");
    if (pid == 0)
        return err_set(err, -EINVAL,
                       "over TCP it is not known which process the VM is, and keys go to no other: "
                       "use its name, or a unix socket");
    if (strncmp(filename, WAITING_PREFIX, strlen(WAITING_PREFIX)) == 0)
        filename += strlen(WAITING_PREFIX);
    ret_serial->shown = ask_shown(link, label, filename);
    r = open_serial(filename, pid, &ret_serial->fd, err);
    if (r == -ENOENT || r == -ECONNREFUSED)
        r = err->code = -EPROTO; /* unlike the VM, which is there */
    if (r < 0)
        json_decref(ret_serial->shown);
    return r;
}

static int find_serial(const struct args *args, struct serial *ret_serial, struct err *err)
{
    struct link *link;
    json_t *chardevs = NULL;
    int r = target_open(args->target, args->timeout_ms ? args->timeout_ms : ANSWER_MS, &link, err);

    if (r < 0)
        return r;
    r = link_ask(link, "query-chardev", NULL, &chardevs, err);
    if (r == 0)
        r = open_known(link, chardevs, ret_serial, err);
    link_close(link);
    json_decref(chardevs);
    return r;
}

static void show(struct serial *serial)
{
    if (serial->shown) {
        (void)fwrite(json_string_value(serial->shown), 1, json_string_length(serial->shown),
                     stdout);
        (void)fflush(stdout); /* what is lost is noticed at the end */
    }
    json_decref(serial->shown);
}

static int run(const struct args *args)
{
    struct relay relay = {
        .in_fd = STDIN_FILENO,
        .out_fd = STDOUT_FILENO,
        .detach_key = args->options & OPTION_DETACH ? args->detach_key : DETACH_KEY,
    };
    bool terminal = isatty(STDIN_FILENO);
    struct serial serial = {.fd = -1};
    struct err err;
    int r = find_serial(args, &serial, &err);

    if (r == 0 && terminal)
        ctl_note("%s: attached; Ctrl-%c detaches", args->target, relay.detach_key + 0x40);
    if (r == 0) {
        show(&serial);
        relay.serial_fd = serial.fd;
        r = relay_run(&relay, &err);
    }
    if (r < 0) {
        err_prefix(&err, "%s", args->target);
        return ctl_fail(&err);
    }
    if (terminal)
        ctl_note("%s: %s", args->target, relay.detached ? "detached" : "the serial port is closed");
    return CTL_OK;
}

const struct command command_console = {
    .name = "console",
    .run = run,
    .options = OPTION_DETACH,
    .synopsis = "[--detach-key ^X]",
    .help = "the serial port on this terminal; Ctrl-] detaches",
};
