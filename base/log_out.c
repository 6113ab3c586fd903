/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log_out.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

/* A thread without work ends after this time, so that an idle VM has none. */
#define THREAD_IDLE_MS 1000u

static atomic_bool raw_terminal;
static atomic_bool has_thread; /* callers do not write themselves */
static atomic_bool pending;    /* there are lines that are not written yet */

static struct {
    pthread_mutex_t lock; /* guards the rest; never held while something blocks */
    pthread_cond_t changed;
    size_t head;
    size_t len;
    unsigned nlost; /* lines after the last one in `text` */
    bool writing;   /* one more line is on its way */
    bool thread_runs;
    char *text; /* LOG_OUT_BUFFER bytes; whole lines: [head, head + len) */
} out = {.lock = PTHREAD_MUTEX_INITIALIZER};

void log_out_set_raw_terminal(bool raw)
{
    atomic_store(&raw_terminal, raw);
}

/* There is nobody to tell that stderr does not work: what fails is dropped. */
static void write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, data, len);

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            /* Somebody else made it non-blocking. */
            struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};

            (void)poll(&pfd, 1, -1); /* the next write tells what happened */
        } else if (errno != EINTR) {
            return;
        }
    }
}

/* Whether the terminal is raw counts when the line is written, not when it is logged. */
static void write_line(const char *line, size_t len)
{
    char text[LOG_OUT_LINE_MAX + 1];

    memcpy(text, line, len);
    if (atomic_load(&raw_terminal)) {
        text[len - 1] = '\r';
        text[len++] = '\n';
    }
    write_all(text, len);
}

/* ---- the buffer ------------------------------------------------------------------------------ */

/* The functions of this part are called with the lock held. */

static bool append(const char *line, size_t len)
{
    if (len > LOG_OUT_BUFFER - out.len)
        return false;
    if (len > LOG_OUT_BUFFER - out.head - out.len) {
        memmove(out.text, out.text + out.head, out.len);
        out.head = 0;
    }
    memcpy(out.text + out.head + out.len, line, len);
    out.len += len;
    return true;
}

static size_t format_lost(char *line, size_t size)
{
    return (size_t)snprintf(line, size, "minivmm: warn: stderr was not read: %u line%s lost\n",
                            out.nlost, out.nlost == 1 ? "" : "s");
}

/* Lines that were lost are reported where they would have been. */
static void append_or_count(const char *line, size_t len)
{
    char lost[128];
    size_t lost_len = out.nlost > 0 ? format_lost(lost, sizeof(lost)) : 0;

    atomic_store(&pending, true);
    if (lost_len + len > LOG_OUT_BUFFER - out.len) {
        out.nlost++;
        return;
    }
    if (lost_len > 0 && append(lost, lost_len))
        out.nlost = 0;
    (void)append(line, len); /* there is room */
}

/* Take the next line out, into `line`; its length, 0 if there is none. */
static size_t take_line(char line[LOG_OUT_LINE_MAX])
{
    const char *first = out.text + out.head;
    size_t len;

    if (out.len == 0) {
        len = out.nlost > 0 ? format_lost(line, LOG_OUT_LINE_MAX) : 0;
        out.nlost = 0;
        return len;
    }
    len = (size_t)((const char *)memchr(first, '\n', out.len) - first) + 1;
    memcpy(line, first, len);
    out.len -= len;
    out.head = out.len > 0 ? out.head + len : 0; /* few pages are used as long as few are needed */
    return len;
}

static bool is_empty(void)
{
    return out.len == 0 && out.nlost == 0 && !out.writing;
}

static void note_written(void)
{
    out.writing = false;
    if (is_empty()) {
        atomic_store(&pending, false);
        pthread_cond_broadcast(&out.changed);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Holding the lock: take a line, after waiting for one. 0: there was none for long. */
static size_t wait_for_line(char line[LOG_OUT_LINE_MAX])
{
    struct timespec until = clock_deadline(THREAD_IDLE_MS);
    size_t len;

    while ((len = take_line(line)) == 0)
        if (pthread_cond_timedwait(&out.changed, &out.lock, &until) == ETIMEDOUT)
            return take_line(line);
    return len;
}

static void *writer_main(void *arg)
{
    char line[LOG_OUT_LINE_MAX];
    size_t len;

    pthread_mutex_lock(&out.lock);
    while ((len = wait_for_line(line)) > 0) {
        out.writing = true;
        pthread_mutex_unlock(&out.lock);
        write_line(line, len);
        pthread_mutex_lock(&out.lock);
        note_written();
    }
    out.thread_runs = false;
    pthread_mutex_unlock(&out.lock);
    return NULL;
}

/*
 * No signal is for this thread, whichever thread makes it, but those that tell of its own faults.
 */
static int start_without_signals(pthread_t *ret_thread)
{
    sigset_t others, old;
    int r;

    sigfillset(&others);
    sigdelset(&others, SIGSEGV);
    sigdelset(&others, SIGBUS);
    sigdelset(&others, SIGILL);
    sigdelset(&others, SIGFPE);
    (void)pthread_sigmask(SIG_SETMASK, &others, &old);
    r = thread_start(ret_thread, "log", writer_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r;
}

/*
 * Holding the lock: without a thread, for want of memory or because there may be no more of them,
 * write as much as does not make us wait.
 */
static void write_what_fits(void)
{
    struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[LOG_OUT_LINE_MAX];
    size_t len;

    while (poll(&pfd, 1, 0) == 1 && (len = take_line(line)) > 0) {
        write_line(line, len);
        note_written();
    }
}

/* Holding the lock: see to it that the buffer is written. */
static void wake_thread(void)
{
    pthread_t thread;

    if (out.thread_runs) {
        pthread_cond_broadcast(&out.changed);
    } else if (start_without_signals(&thread) == 0) {
        out.thread_runs = true;
        pthread_detach(thread);
    } else {
        write_what_fits();
    }
}

/* ---- what log.c calls ------------------------------------------------------------------------ */

void log_out_start_thread(void)
{
    /* Mapped, for memory between other variables would cost its first and its last page. */
    char *text =
        mmap(NULL, LOG_OUT_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (text == MAP_FAILED)
        return; /* callers write themselves */
    out.text = text;
    clock_cond_init(&out.changed);
    atomic_store(&has_thread, true);
}

void log_out_write(const char *line, size_t len)
{
    if (!atomic_load(&has_thread)) {
        write_line(line, len);
        return;
    }
    pthread_mutex_lock(&out.lock);
    append_or_count(line, len);
    wake_thread();
    pthread_mutex_unlock(&out.lock);
}

bool log_out_flush(unsigned timeout_ms)
{
    struct timespec until;
    bool empty;

    if (!atomic_load(&has_thread))
        return true;
    until = clock_deadline(timeout_ms);
    pthread_mutex_lock(&out.lock);
    if (!is_empty())
        wake_thread();
    while (!is_empty() && pthread_cond_timedwait(&out.changed, &out.lock, &until) != ETIMEDOUT)
        ;
    empty = is_empty();
    pthread_mutex_unlock(&out.lock);
    return empty;
}

void log_out_wait_in_handler(unsigned timeout_ms)
{
    const struct timespec ms = {.tv_nsec = NS_PER_MS};

    for (unsigned i = 0; i < timeout_ms && atomic_load(&pending); i++)
        (void)nanosleep(&ms, NULL); /* cut short by a signal: the next round goes on */
}
