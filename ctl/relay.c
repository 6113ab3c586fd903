/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/bytes.h"

#define CHUNK 4096u

/* One direction: read, and not yet written. */
struct flow {
    char data[CHUNK];
    size_t begin;
    size_t end;
};

struct run {
    struct relay *relay;
    bool terminal;
    bool input_ended;
    bool over;
    struct flow keys;
    struct flow output;
};

/* ---- the terminal ---------------------------------------------------------------------------- */

static int make_raw(int fd, struct termios *ret_before, struct err *err)
{
    struct termios raw;

    if (tcgetattr(fd, ret_before) < 0)
        return err_set_errno(err, -errno, "the terminal");
    raw = *ret_before;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
        return err_set_errno(err, -errno, "the terminal cannot be made raw");
    return 0;
}

/*
 * A descriptor tells of the signals that end us, and they wait, so that the terminal is restored
 * first.
 */
static int catch_signals(sigset_t *ret_before, struct err *err)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, ret_before);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_set_errno(err, -errno, "signals") : fd;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Read into an empty flow. 0 at the end, else > 0, also if nothing came; or -errno. */
static int fill(struct flow *flow, int fd)
{
    ssize_t n = read(fd, flow->data, sizeof(flow->data));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 1 : -errno;
    flow->begin = 0;
    flow->end = (size_t)n;
    return n > 0;
}

static int drain(struct flow *flow, int fd)
{
    ssize_t n = write(fd, flow->data + flow->begin, flow->end - flow->begin);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    flow->begin += (size_t)n;
    return 0;
}

static bool is_empty(const struct flow *flow)
{
    return flow->begin == flow->end;
}

/*
 * What was typed before the key is sent, if the guest takes it now: one that takes nothing must not
 * keep anybody attached.
 */
static void detach(struct run *run)
{
    run->relay->detached = true;
    run->over = true;
    if (!is_empty(&run->keys))
        (void)drain(&run->keys, run->relay->serial_fd);
}

/*
 * Keys are read also while the guest takes none, for the sake of the one that detaches. Those that
 * do not fit are lost, as on any terminal.
 */
static void add_keys(struct run *run, const struct flow *typed)
{
    struct flow *keys = &run->keys;
    const char *key = memchr(typed->data, run->relay->detach_key, typed->end);
    size_t len = key ? (size_t)(key - typed->data) : typed->end;

    memmove(keys->data, keys->data + keys->begin, keys->end - keys->begin);
    keys->end -= keys->begin;
    keys->begin = 0;
    len = min_u64(len, sizeof(keys->data) - keys->end);
    memcpy(keys->data + keys->end, typed->data, len);
    keys->end += len;
    if (key)
        detach(run);
}

static int read_keys(struct run *run)
{
    struct flow typed = {.end = 0};
    struct flow *into = run->terminal ? &typed : &run->keys;
    int r = fill(into, run->relay->in_fd);

    if (r == 0)
        run->input_ended = true;
    else if (r > 0 && run->terminal)
        add_keys(run, &typed);
    return r < 0 ? r : 0;
}

/* A pty whose other end is closed fails with EIO. */
static int read_output(struct run *run)
{
    int r = fill(&run->output, run->relay->serial_fd);

    if (r == 0 || r == -EIO || r == -ECONNRESET) {
        run->over = true;
        return 0;
    }
    return r < 0 ? r : 0;
}

/* Output is lost to a serial port that closes; keys are of no use then. */
static int write_keys(struct run *run)
{
    int r = drain(&run->keys, run->relay->serial_fd);

    if (r == -EPIPE || r == -ECONNRESET || r == -EIO) {
        run->keys.begin = run->keys.end;
        run->input_ended = true;
        r = 0;
    }
    return r;
}

/* ---- the loop -------------------------------------------------------------------------------- */

enum { INPUT, OUTPUT, SERIAL, SIGNALS, NFDS };

static void choose(const struct run *run, struct pollfd fds[NFDS])
{
    const struct relay *relay = run->relay;
    bool wants_keys = (run->terminal || is_empty(&run->keys)) && !run->input_ended;

    fds[INPUT].fd = wants_keys ? relay->in_fd : -1;
    fds[OUTPUT].fd = is_empty(&run->output) ? -1 : relay->out_fd;
    fds[SERIAL].events =
        (short)((is_empty(&run->output) ? POLLIN : 0) | (is_empty(&run->keys) ? 0 : POLLOUT));
    /* Hung up, it would be ready all the time. */
    fds[SERIAL].fd = fds[SERIAL].events ? relay->serial_fd : -1;
}

static int step(struct run *run, struct pollfd fds[NFDS])
{
    int r = 0;

    choose(run, fds);
    if (poll(fds, NFDS, -1) < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[SIGNALS].revents)
        run->over = true;
    if (fds[INPUT].fd >= 0 && fds[INPUT].revents)
        r = read_keys(run);
    if (r == 0 && fds[SERIAL].fd >= 0 && fds[SERIAL].revents & (POLLOUT | POLLERR | POLLHUP) &&
        !is_empty(&run->keys))
        r = write_keys(run);
    if (r == 0 && fds[SERIAL].fd >= 0 && fds[SERIAL].revents & (POLLIN | POLLERR | POLLHUP) &&
        is_empty(&run->output))
        r = read_output(run);
    if (r == 0 && fds[OUTPUT].fd >= 0 && fds[OUTPUT].revents)
        r = drain(&run->output, run->relay->out_fd);
    return r;
}

static int loop(struct run *run, int signals)
{
    struct pollfd fds[NFDS] = {
        [INPUT] = {.events = POLLIN},
        [OUTPUT] = {.events = POLLOUT},
        [SIGNALS] = {.fd = signals, .events = POLLIN},
    };
    int r = 0;

    while (!run->over && r == 0)
        r = step(run, fds);
    return r;
}

int relay_run(struct relay *relay, struct err *err)
{
    struct run run = {.relay = relay, .terminal = isatty(relay->in_fd)};
    struct termios before;
    sigset_t mask;
    int signals = catch_signals(&mask, err);
    int r = signals < 0 ? signals : 0;

    if (r == 0 && run.terminal)
        r = make_raw(relay->in_fd, &before, err);
    if (r == 0) {
        r = loop(&run, signals);
        if (run.terminal)
            (void)tcsetattr(relay->in_fd, TCSADRAIN, &before); /* it may be gone */
        if (r < 0)
            err_set_errno(err, r, "console");
    }
    if (signals >= 0)
        close(signals);
    close(relay->serial_fd);
    sigprocmask(SIG_SETMASK, &mask, NULL); /* a signal that came is carried out now */
    return r;
}
