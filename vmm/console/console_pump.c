/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console/console_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "vmm/console/console_core.h"

/* Small enough for the first page of a stack, which an idle console keeps to. */
#define PUMP_CHUNK 256u

struct console_pump {
    pthread_t thread;
    int pipe_in; /* written by the main loop */
    int pipe_out;
    int out_fd;
    const char *name;
    bool broken; /* owner: the thread; what comes is thrown away */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    uint64_t nwritten;
    bool finished;
    bool abandoned; /* the thread frees the pump */
};

static void pump_free(struct console_pump *pump)
{
    pthread_cond_destroy(&pump->changed);
    pthread_mutex_destroy(&pump->lock);
    close(pump->pipe_out);
    free(pump);
}

static void count_written(struct console_pump *pump, size_t len)
{
    pthread_mutex_lock(&pump->lock);
    pump->nwritten += len;
    pthread_mutex_unlock(&pump->lock);
}

/* The reader went away, or the disk is full: the guest goes on without. */
static void give_up(struct console_pump *pump, int error)
{
    log_warn("%s: %s: the guest's output is dropped from here on", pump->name, strerror(error));
    pump->broken = true;
}

static void write_all(struct console_pump *pump, const char *data, size_t len)
{
    while (len > 0 && !pump->broken) {
        ssize_t n = write(pump->out_fd, data, len);

        if (n >= 0) {
            count_written(pump, (size_t)n);
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            /* Somebody else made it non-blocking. */
            struct pollfd pfd = {.fd = pump->out_fd, .events = POLLOUT};

            (void)poll(&pfd, 1, -1); /* the next write tells what happened */
        } else if (errno != EINTR) {
            give_up(pump, errno);
        }
    }
}

static void *pump_main(void *arg)
{
    struct console_pump *pump = arg;
    char chunk[PUMP_CHUNK];
    bool abandoned;
    ssize_t n;

    while ((n = read(pump->pipe_out, chunk, sizeof(chunk))) != 0) {
        if (n > 0)
            write_all(pump, chunk, (size_t)n);
    }

    pthread_mutex_lock(&pump->lock);
    pump->finished = true;
    abandoned = pump->abandoned;
    pthread_cond_signal(&pump->changed);
    pthread_mutex_unlock(&pump->lock);
    if (abandoned)
        pump_free(pump);
    return NULL;
}

static int open_pipe(struct console_pump *pump)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pump->pipe_out = fds[0];
    pump->pipe_in = fds[1];
    if (fcntl(pump->pipe_in, F_SETFL, O_NONBLOCK) < 0) {
        int r = -errno;

        close(fds[0]);
        close(fds[1]);
        return r;
    }
    return 0;
}

int console_pump_start(int out_fd, const char *name, int *ret_pipe_fd,
                       struct console_pump **ret_pump)
{
    struct console_pump *pump = calloc(1, sizeof(*pump));
    int r;

    if (!pump)
        return -ENOMEM;
    pump->out_fd = out_fd;
    pump->name = name;
    r = open_pipe(pump);
    if (r < 0) {
        free(pump);
        return r;
    }
    pthread_mutex_init(&pump->lock, NULL);
    clock_cond_init(&pump->changed);

    r = thread_start(&pump->thread, "console", pump_main, pump);
    if (r < 0) {
        close(pump->pipe_in);
        pump_free(pump);
        return r;
    }
    *ret_pipe_fd = pump->pipe_in;
    *ret_pump = pump;
    return 0;
}

/* Holding the lock: wait for the end of the thread, for `timeout_ms` at most. */
static void wait_for(struct console_pump *pump, unsigned timeout_ms)
{
    struct timespec until = clock_deadline(timeout_ms);

    while (!pump->finished &&
           pthread_cond_timedwait(&pump->changed, &pump->lock, &until) != ETIMEDOUT)
        ;
}

/*
 * Holding the lock: wait for the end of the thread. False: it did not write for `stall_ms`, or not
 * all of it and we are hurried.
 */
static bool wait_finished(struct console_pump *pump, unsigned stall_ms,
                          const struct console_events *events)
{
    uint64_t before;

    do {
        before = pump->nwritten;
        wait_for(pump, stall_ms);
    } while (!pump->finished && pump->nwritten != before && !console_is_hurried(events));
    return pump->finished;
}

bool console_pump_stop(struct console_pump *pump, unsigned stall_ms,
                       const struct console_events *events)
{
    const char *name = pump->name;
    bool finished;

    close(pump->pipe_in); /* the thread reads what is in the pipe, and then its end */
    pthread_mutex_lock(&pump->lock);
    finished = wait_finished(pump, stall_ms, events);
    pump->abandoned = !finished;
    if (!finished)
        pthread_detach(pump->thread);
    pthread_mutex_unlock(&pump->lock);

    if (!finished) {
        log_warn("%s: the guest's last output is lost: nobody reads it, or too slowly", name);
        return false;
    }
    pthread_join(pump->thread, NULL);
    pump_free(pump);
    return true;
}
