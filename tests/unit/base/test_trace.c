/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

UNIT_USES_THREADS;

/* Write the timeline and read it back: its events, which belong to *ret_root. */
static json_t *written(json_t **ret_root)
{
    const char *path = scratch_path("trace.json");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    json_error_t error;
    json_t *events;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(trace_write(fd), 0);
    close(fd);
    *ret_root = json_load_file(path, 0, &error);
    ck_assert_msg(*ret_root, "line %d: %s", error.line, error.text);
    events = json_object_get(*ret_root, "traceEvents");
    ck_assert(json_is_array(events));
    return events;
}

static const char *text_of(const json_t *event, const char *key)
{
    const char *text = json_string_value(json_object_get(event, key));

    ck_assert_msg(text, "an event without %s", key);
    return text;
}

/* The first event of this name; NULL: none. */
static const json_t *find(const json_t *events, const char *name)
{
    for (size_t i = 0; i < json_array_size(events); i++)
        if (strcmp(text_of(json_array_get(events, i), "name"), name) == 0)
            return json_array_get(events, i);
    return NULL;
}

static double number_of(const json_t *event, const char *key)
{
    const json_t *number = json_object_get(event, key);

    ck_assert(json_is_number(number));
    return json_number_value(number);
}

static const char *thread_of(const json_t *events, const json_t *event)
{
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *other = json_array_get(events, i);

        if (strcmp(text_of(other, "name"), "thread_name") == 0 &&
            number_of(other, "tid") == number_of(event, "tid"))
            return text_of(json_object_get(other, "args"), "name");
    }
    return NULL;
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(nothing_is_recorded_before_it_is_switched_on)
{
    json_t *root, *events;

    ck_assert(!trace_is_on());
    ck_assert_uint_eq(trace_begin(), 0);
    trace_span("early", 1);
    trace_mark("early");
    trace_switch_on();
    events = written(&root);
    ck_assert_ptr_null(find(events, "early"));
    json_decref(root);
}
END_TEST

START_TEST(names_of_threads_may_be_anything)
{
    json_t *root, *events;

    ck_assert_int_eq(pthread_setname_np(pthread_self(), "a\"b\\c\n\x80"), 0);
    trace_switch_on();
    trace_mark("moment");
    events = written(&root);
    ck_assert_str_eq(thread_of(events, find(events, "moment")), "a?b?c??");
    json_decref(root);
}
END_TEST

START_TEST(spans_and_marks_have_their_times)
{
    uint64_t before_ns = monotonic_ns(), begin_ns;
    const json_t *span, *mark;
    json_t *root, *events;

    trace_switch_on();
    begin_ns = trace_begin();
    ck_assert_uint_ge(begin_ns, before_ns);
    usleep(2000);
    trace_mark("moment");
    trace_span("work", begin_ns);

    events = written(&root);
    span = find(events, "work");
    mark = find(events, "moment");
    ck_assert_str_eq(text_of(span, "ph"), "X");
    ck_assert_str_eq(text_of(mark, "ph"), "i");
    ck_assert_double_eq_tol(number_of(span, "ts"), (double)begin_ns / 1e3, 0.01);
    ck_assert_double_ge(number_of(span, "dur"), 2000);
    ck_assert_double_ge(number_of(mark, "ts"), number_of(span, "ts") + 2000);
    ck_assert_double_le(number_of(mark, "ts"), number_of(span, "ts") + number_of(span, "dur"));
    ck_assert_int_eq((int)number_of(span, "pid"), getpid());
    ck_assert_ptr_null(json_object_get(mark, "dur"));
    json_decref(root);
}
END_TEST

START_TEST(events_come_in_the_order_in_which_they_began)
{
    uint64_t outer, inner;
    double last = 0;
    json_t *root, *events;

    trace_switch_on();
    outer = trace_begin();
    inner = trace_begin();
    trace_span("inner", inner);
    trace_mark("mark");
    trace_span("outer", outer);
    /* What contains another one comes first, though it was recorded last. */
    trace_span("same begin, longer", inner);

    events = written(&root);
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);

        if (strcmp(text_of(event, "ph"), "M") == 0)
            continue;
        ck_assert_double_ge(number_of(event, "ts"), last);
        last = number_of(event, "ts");
        if (strcmp(text_of(event, "name"), "inner") == 0)
            ck_assert_str_eq(text_of(json_array_get(events, i - 1), "name"), "same begin, longer");
    }
    json_decref(root);
}
END_TEST

/* thread_start, too, names a thread that runs already. */
static void *work(void *name)
{
    trace_mark(name);
    (void)pthread_setname_np(pthread_self(), "worker");
    trace_mark("last");
    return NULL;
}

START_TEST(threads_have_their_names)
{
    char name[] = "other thread";
    pthread_t thread;
    json_t *root, *events;

    trace_switch_on();
    ck_assert_int_eq(pthread_create(&thread, NULL, work, name), 0);
    pthread_join(thread, NULL);
    trace_mark("here");

    events = written(&root);
    ck_assert_str_eq(thread_of(events, find(events, "other thread")), "worker");
    ck_assert_str_ne(thread_of(events, find(events, "here")), "worker");
    json_decref(root);
}
END_TEST

START_TEST(the_first_events_are_kept)
{
    unsigned n = 0;
    json_t *root, *events;

    trace_switch_on();
    trace_mark("the very first");
    for (unsigned i = 0; i < TRACE_EVENTS_MAX; i++)
        trace_mark("more");
    trace_mark("the very last");

    events = written(&root);
    for (size_t i = 0; i < json_array_size(events); i++)
        n += strcmp(text_of(json_array_get(events, i), "ph"), "i") == 0;
    ck_assert_uint_eq(n, TRACE_EVENTS_MAX);
    ck_assert_ptr_nonnull(find(events, "the very first"));
    ck_assert_ptr_null(find(events, "the very last"));
    json_decref(root);
}
END_TEST

START_TEST(a_full_disk_is_told)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    trace_switch_on();
    trace_mark("something");
    ck_assert_int_eq(trace_write(fd), -ENOSPC);
    close(fd);
    ck_assert_int_eq(trace_write(fd), -EBADF);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case(suite, "trace", nothing_is_recorded_before_it_is_switched_on,
              names_of_threads_may_be_anything, spans_and_marks_have_their_times,
              events_come_in_the_order_in_which_they_began, threads_have_their_names,
              the_first_events_are_kept, a_full_disk_is_told);
}

UNIT_MAIN("trace", add_tests)
