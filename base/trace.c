/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/thread.h"

#define NS_PER_US 1000u

struct event {
    const char *name;
    uint64_t begin_ns;
    uint64_t end_ns; /* 0: it took no time */
    pid_t tid;
    char thread[THREAD_NAME_MAX + 1]; /* it may be gone when the file is written */
    bool complete;                    /* stored last, with release */
};

/* TRACE_EVENTS_MAX of them, mapped: pages that nothing is recorded in do not exist. */
static struct event *events;
static unsigned nevents; /* may be more than there is room for */
static bool is_on;       /* written before threads start */

void trace_switch_on(void)
{
    events = mmap(NULL, TRACE_EVENTS_MAX * sizeof(*events), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    is_on = events != MAP_FAILED; /* else the timeline is empty */
}

bool trace_is_on(void)
{
    return is_on;
}

uint64_t trace_begin(void)
{
    return is_on ? monotonic_ns() : 0;
}

/* The main thread's name is that of the program's file, which may be anything. */
static void make_plain(char *name)
{
    for (; *name != '\0'; name++)
        if (*name < ' ' || *name > '~' || *name == '"' || *name == '\\')
            *name = '?';
}

static void record(const char *name, uint64_t begin_ns, uint64_t end_ns)
{
    unsigned i = __atomic_fetch_add(&nevents, 1, __ATOMIC_RELAXED);
    struct event *event;

    if (i >= TRACE_EVENTS_MAX)
        return;
    event = &events[i];
    event->name = name;
    event->begin_ns = begin_ns;
    event->end_ns = end_ns;
    event->tid = (pid_t)syscall(SYS_gettid);
    (void)pthread_getname_np(pthread_self(), event->thread, sizeof(event->thread));
    make_plain(event->thread);
    __atomic_store_n(&event->complete, true, __ATOMIC_RELEASE);
}

void trace_span(const char *name, uint64_t begin_ns)
{
    if (is_on)
        record(name, begin_ns, monotonic_ns());
}

void trace_mark(const char *name)
{
    if (is_on)
        record(name, monotonic_ns(), 0);
}

/* ---- the file -------------------------------------------------------------------------------- */

/* In the order in which they began, the longer first: what contains others comes before them. */
static int compare_events(const void *a, const void *b)
{
    const struct event *first = &events[*(const unsigned *)a];
    const struct event *second = &events[*(const unsigned *)b];

    if (first->begin_ns != second->begin_ns)
        return first->begin_ns < second->begin_ns ? -1 : 1;
    return (first->end_ns < second->end_ns) - (first->end_ns > second->end_ns);
}

/* The places of all events. */
static size_t sort_events(unsigned sorted[TRACE_EVENTS_MAX])
{
    unsigned recorded = __atomic_load_n(&nevents, __ATOMIC_RELAXED);
    size_t n = 0;

    for (unsigned i = 0; i < recorded && i < TRACE_EVENTS_MAX; i++)
        if (__atomic_load_n(&events[i].complete, __ATOMIC_ACQUIRE))
            sorted[n++] = i;
    if (n > 0)
        qsort(sorted, n, sizeof(sorted[0]), compare_events);
    return n;
}

/* Microseconds with three decimals. */
static void print_us(FILE *out, const char *key, uint64_t ns)
{
    fprintf(out, ",\"%s\":%" PRIu64 ".%03u", key, ns / NS_PER_US, (unsigned)(ns % NS_PER_US));
}

/* With a thread's last event: it may have got its name after the first one. */
static void print_thread(FILE *out, const unsigned *sorted, size_t n, size_t i)
{
    const struct event *event = &events[sorted[i]];

    for (size_t later = i + 1; later < n; later++)
        if (events[sorted[later]].tid == event->tid)
            return;
    fprintf(out,
            ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,"
            "\"args\":{\"name\":\"%s\"}}",
            (int)getpid(), (int)event->tid, event->thread);
}

static void print_event(FILE *out, const struct event *event)
{
    fprintf(out, ",\n{\"name\":\"%s\",\"ph\":\"%s\"", event->name,
            event->end_ns ? "X" : "i\",\"s\":\"t");
    print_us(out, "ts", event->begin_ns);
    if (event->end_ns)
        print_us(out, "dur", event->end_ns - event->begin_ns);
    fprintf(out, ",\"pid\":%d,\"tid\":%d}", (int)getpid(), (int)event->tid);
}

static void print_all(FILE *out)
{
    unsigned sorted[TRACE_EVENTS_MAX];
    size_t n = sort_events(sorted);

    fprintf(out,
            "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
            "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}",
            (int)getpid(), "minivmm");
    for (size_t i = 0; i < n; i++) {
        print_event(out, &events[sorted[i]]);
        print_thread(out, sorted, n, i);
    }
    fputs("\n]}\n", out);
}

int trace_write(int fd)
{
    int copy = dup(fd);
    FILE *out = copy < 0 ? NULL : fdopen(copy, "w");
    int r = 0;

    if (!out) {
        r = -errno;
        if (copy >= 0)
            close(copy);
        return r;
    }
    print_all(out);
    if (fflush(out) != 0)
        r = -errno;
    /* An earlier part may have been lost, and the last one not. */
    if (r == 0 && ferror(out))
        r = -EIO;
    if (fclose(out) != 0 && r == 0)
        r = -errno;
    return r;
}
