/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a server that sends what a test says, piece by piece.
 */
#include "ctl/link.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/message.h"
#include "tests/lib/scratch.h"
#include "tests/lib/unit.h"

#define GREETING "{\"QMP\": {}}\r\n"
#define TIMEOUT_MS 10000u
#define SHORT_MS 100u

/*
 * Texts to send, one for each request, and the first at once; after the last the connection ends.
 * NULL behind it.
 */
#define TEXTS_MAX 8u
static const char *script[TEXTS_MAX];
static size_t piece; /* bytes that are sent at a time; 0: all */
static char requests[4096];
static int listener;
static pthread_t server;
static struct link *conn;
static struct err err;

static void send_text(int fd, const char *text)
{
    size_t len = strlen(text);
    size_t step = piece > 0 ? piece : len;

    for (size_t i = 0; i < len; i += step) {
        size_t n = len - i < step ? len - i : step;

        if (send(fd, text + i, n, MSG_NOSIGNAL) < 0)
            return;
    }
}

/* A line that the client sends. False: it is gone. */
static bool read_request(int fd)
{
    size_t len = strlen(requests);

    while (len < sizeof(requests) - 1) {
        if (read(fd, requests + len, 1) != 1)
            return false;
        requests[++len] = '\0';
        if (requests[len - 1] == '\n')
            return true;
    }
    return false;
}

static void *serve(void *arg)
{
    int fd = accept(listener, NULL, NULL);

    for (const char *const *text = script; *text; text++) {
        if (text > script && !read_request(fd))
            break;
        send_text(fd, *text);
    }
    close(fd);
    return NULL;
}

static const char *path(void)
{
    return scratch_path("socket");
}

/* Let the server run, and connect to it. */
static int connect_to(const char *const texts[], unsigned timeout_ms)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    for (size_t i = 0; texts[i]; i++) {
        ck_assert_uint_lt(i + 1, TEXTS_MAX);
        script[i] = texts[i];
    }
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path());
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(pthread_create(&server, NULL, serve, NULL), 0);
    return link_open(path(), timeout_ms, &conn, &err);
}

static void set_up(void)
{
    scratch_set_up();
    piece = 0;
    memset(script, 0, sizeof(script));
    requests[0] = '\0';
    listener = -1;
    conn = NULL;
    memset(&err, 0, sizeof(err));
}

static void tear_down(void)
{
    link_close(conn);
    if (listener >= 0) {
        pthread_join(server, NULL);
        close(listener);
    }
    scratch_tear_down();
}

#define script_of(...)                                                                             \
    ((const char *const[]){GREETING, "{\"return\": {}, \"id\": 1}\n", __VA_ARGS__, NULL})

START_TEST(answers_are_returned)
{
    json_t *value = NULL;

    piece = _i == 0 ? 0 : 1;
    ck_assert_int_eq(connect_to(script_of("{\"return\": [1, 2], \"id\": 2}\n"), TIMEOUT_MS), 0);
    ck_assert_int_eq(link_pid(conn), getpid());
    ck_assert_int_eq(link_ask(conn, "query-x", json_pack("{s:s}", "a", "b"), &value, &err), 0);
    ck_assert_uint_eq(json_array_size(value), 2);
    json_decref(value);
    ck_assert_ptr_nonnull(strstr(requests, "\"execute\":\"query-x\""));
    ck_assert_ptr_nonnull(strstr(requests, "\"arguments\":{\"a\":\"b\"}"));
}
END_TEST

START_TEST(errors_are_the_vms_words)
{
    ck_assert_int_eq(connect_to(script_of("{\"error\": {\"desc\": \"no \\u001b\"}, \"id\": 2}\n",
                                          "{\"error\": 1, \"id\": 3}\n"),
                                TIMEOUT_MS),
                     0);
    ck_assert_int_eq(link_ask(conn, "x", NULL, NULL, &err), CTL_REMOTE_ERROR);
    ck_assert_str_eq(err.msg, "no ?");
    ck_assert_int_eq(link_ask(conn, "x", NULL, NULL, &err), CTL_REMOTE_ERROR);
}
END_TEST

START_TEST(events_wait_until_somebody_asks)
{
    json_t *event;

    ck_assert_int_eq(connect_to(script_of("{\"event\": \"A\"}\n{\"event\": \"B\"}\n"
                                          "{\"return\": {}, \"id\": 2}\n{\"event\": \"C\"}\n"),
                                TIMEOUT_MS),
                     0);
    ck_assert_int_eq(link_ask(conn, "x", NULL, NULL, &err), 0);
    for (const char *name = "A\0B\0C"; *name; name += 2) {
        ck_assert_int_eq(link_next_event(conn, &event, &err), 0);
        ck_assert_str_eq(json_string_value(json_object_get(event, "event")), name);
        json_decref(event);
        if (*name == 'C')
            break;
    }
    ck_assert_int_eq(link_next_event(conn, &event, &err), -ECONNRESET);
}
END_TEST

/* An event with a text as long as that. */
static size_t put_event(char *text, char name, size_t filling)
{
    size_t len = (size_t)sprintf(text, "{\"event\": \"%c\", \"data\": \"", name);

    memset(text + len, 'x', filling);
    len += filling;
    return len + (size_t)sprintf(text + len, "\"}\n");
}

/* The latest are kept, and one that is larger than all of them may be is not. */
START_TEST(events_that_wait_are_bounded)
{
    size_t half = LINK_EVENTS_MAX / 2;
    char *text = malloc(4 * LINK_EVENTS_MAX);
    size_t len = put_event(text, 'A', half);
    json_t *event;

    len += put_event(text + len, 'B', half - 1000);
    len += put_event(text + len, 'C', 100);
    len += put_event(text + len, 'D', half - 1000);
    len += put_event(text + len, 'E', LINK_EVENTS_MAX);
    snprintf(text + len, LINK_EVENTS_MAX, "{\"return\": {}, \"id\": 2}\n");
    ck_assert_int_eq(connect_to(script_of(text), TIMEOUT_MS), 0);
    ck_assert_int_eq(link_ask(conn, "x", NULL, NULL, &err), 0);
    for (const char *name = "BCD"; *name; name++) {
        const char name_text[] = {*name, '\0'};

        ck_assert_int_eq(link_next_event(conn, &event, &err), 0);
        ck_assert_str_eq(json_string_value(json_object_get(event, "event")), name_text);
        json_decref(event);
    }
    ck_assert_int_eq(link_next_event(conn, &event, &err), -ECONNRESET);
    pthread_join(server, NULL);
    close(listener);
    listener = -1;
    free(text);
}
END_TEST

START_TEST(answers_to_others_are_passed_over)
{
    json_t *value = NULL;

    ck_assert_int_eq(
        connect_to(script_of("{\"return\": 1, \"id\": 1}\n{\"return\": 2, \"id\": \"2\"}\n"
                             "{\"return\": 3, \"id\": 2}\n"),
                   TIMEOUT_MS),
        0);
    ck_assert_int_eq(link_ask(conn, "x", NULL, &value, &err), 0);
    ck_assert_int_eq(json_integer_value(value), 3);
    json_decref(value);
}
END_TEST

START_TEST(what_is_no_qmp_is_refused)
{
    static const char *const texts[][2] = {
        {"SSH-2.0\n"}, {"[]\n"}, {"{}\n"}, {"{\"QMP\": {}\n"}, {"\n"}, {"{\"QMP\": {}} x\n"},
    };

    ck_assert_int_eq(connect_to(texts[_i], TIMEOUT_MS), -EPROTO);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not speak QMP"));
}
END_TEST

START_TEST(server_that_hangs_up)
{
    ck_assert_int_eq(connect_to((const char *const[]){GREETING, NULL}, TIMEOUT_MS), -ECONNRESET);
}
END_TEST

START_TEST(server_that_says_nothing_is_not_waited_for_long)
{
    static const char *const nothing[] = {"", "", NULL};
    uint64_t begin = monotonic_ns();

    ck_assert_int_eq(connect_to(nothing, SHORT_MS), -ETIMEDOUT);
    ck_assert_uint_ge(monotonic_ns() - begin, SHORT_MS * NS_PER_MS);
}
END_TEST

START_TEST(message_without_end_is_bounded)
{
    char *text = malloc(LINK_MESSAGE_MAX + 100);
    const char *texts[2] = {text, NULL};

    memset(text, 'x', LINK_MESSAGE_MAX + 99);
    text[LINK_MESSAGE_MAX + 99] = '\0';
    ck_assert_int_eq(connect_to(texts, TIMEOUT_MS), -EPROTO);
    ck_assert_ptr_nonnull(strstr(err.msg, "more than 4 MiB"));
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    free(text);
    close(listener);
    listener = -1;
}
END_TEST

START_TEST(nobody_listens)
{
    ck_assert_int_eq(link_open(path(), TIMEOUT_MS, &conn, &err), -ENOENT);
    ck_assert_int_eq(link_open("tcp:127.0.0.1:x", TIMEOUT_MS, &conn, &err), -EINVAL);
    ck_assert_int_eq(link_open("tcp:127.0.0.1:65536", TIMEOUT_MS, &conn, &err), -EINVAL);
}
END_TEST

/* A process that takes no clients: they wait in its queue until that is full. */
START_TEST(full_queue_is_not_waited_for_long)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int r = 0;

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path());
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    ck_assert_int_eq(listen(fd, 0), 0);
    for (unsigned i = 0; i < 3 && r == 0; i++) {
        conn = NULL;
        r = link_connect(path(), SHORT_MS, &conn, &err);
        link_close(conn); /* it stays in the queue */
    }
    conn = NULL;
    ck_assert_int_eq(r, -ETIMEDOUT);
    close(fd);
}
END_TEST

static void add_tests(Suite *suite)
{
    TCase *tcase = tcase_create("link");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, answers_are_returned, 0, 2);
    tcase_add_test(tcase, errors_are_the_vms_words);
    tcase_add_test(tcase, events_wait_until_somebody_asks);
    tcase_add_test(tcase, events_that_wait_are_bounded);
    tcase_add_test(tcase, answers_to_others_are_passed_over);
    tcase_add_loop_test(tcase, what_is_no_qmp_is_refused, 0, 6);
    tcase_add_test(tcase, server_that_hangs_up);
    tcase_add_test(tcase, server_that_says_nothing_is_not_waited_for_long);
    tcase_add_test(tcase, message_without_end_is_bounded);
    tcase_add_test(tcase, nobody_listens);
    tcase_add_test(tcase, full_queue_is_not_waited_for_long);
    suite_add_tcase(suite, tcase);
}

UNIT_USES_THREADS;
UNIT_MAIN("link", add_tests)
