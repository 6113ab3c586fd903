/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/lib/unit.h"
#include "tests/lib/vmm/control/qmp_rig.h"
#include "vmm/control/wire.h"

/* A server with some commands, and clients on socket pairs; everything on the test's thread. */
static struct qmp_rig rig;
static struct qmp_request *kept; /* of "later" */
static unsigned ncalls;

/* ---- commands -------------------------------------------------------------------------------- */

static void run_echo(struct qmp_request *request)
{
    ncalls++;
    qmp_return(request, json_pack("{s:s,s:I,s:b}", "text", qmp_string(request, "text"), "number",
                                  qmp_integer(request, "number", -1), "flag",
                                  !json_is_false(qmp_any(request, "flag"))));
}

static void run_later(struct qmp_request *request)
{
    ncalls++;
    kept = request;
}

static void run_fail(struct qmp_request *request)
{
    qmp_fail(request, QMP_DEVICE_NOT_FOUND, "no %s", "such thing");
}

static void run_repeat(struct qmp_request *request)
{
    qmp_fail(request, QMP_GENERIC_ERROR, "%s", qmp_string(request, "text"));
}

/* An answer as large as one may be. */
static void run_long(struct qmp_request *request)
{
    char *text = malloc(300000);

    memset(text, 'x', 299999);
    text[299999] = '\0';
    qmp_return(request, json_string(text));
    free(text);
}

/* And one that is longer. */
static void run_endless(struct qmp_request *request)
{
    json_t *texts = json_array();

    qmp_advise(request, "ask for less");
    for (unsigned i = 0; i < WIRE_OUT_MAX / 8; i++)
        json_array_append_new(texts, json_string("eight..."));
    qmp_return(request, texts);
}

/* AddressSanitizer would end the process instead. */
const char *__asan_default_options(void); /* NOLINT(bugprone-reserved-identifier) */
const char *__asan_default_options(void)  /* NOLINT(bugprone-reserved-identifier) */
{
    return "allocator_may_return_null=1";
}

/* Memory that nobody has. */
static json_t *too_much(void)
{
    return json_stringn_nocheck("", PTRDIFF_MAX - 1);
}

static void run_without_memory(struct qmp_request *request)
{
    qmp_return(request, json_pack("[o]", too_much()));
}

static void run_without_memory_for_a_part(struct qmp_request *request)
{
    json_t *parts = json_pack("[s]", "first");

    json_array_append_new(parts, too_much());
    json_array_append_new(parts, json_string("third"));
    qmp_return(request, parts);
}

static const struct qmp_arg echo_args[] = {
    {"text", QMP_STRING, false}, {"number", QMP_INTEGER, true}, {"flag", QMP_BOOLEAN, true}};

static const struct qmp_arg repeat_args[] = {{"text", QMP_STRING, false}};

static const struct qmp_command test_commands[] = {
    {"echo", run_echo, echo_args, ARRAY_SIZE(echo_args)},
    {"later", run_later, NULL, 0},
    {"fail", run_fail, NULL, 0},
    {"repeat", run_repeat, repeat_args, ARRAY_SIZE(repeat_args)},
    {"long", run_long, NULL, 0},
    {"endless", run_endless, NULL, 0},
    {"do-nothing", qmp_done, NULL, 0},
    {"without-memory", run_without_memory, NULL, 0},
    {"without-memory-for-a-part", run_without_memory_for_a_part, NULL, 0},
};

static const struct qmp_commands test_table = {test_commands, ARRAY_SIZE(test_commands)};

/* ---- the rig --------------------------------------------------------------------------------- */

static void set_up(void)
{
    ncalls = 0;
    kept = NULL;
    qmp_rig_init(&rig, &test_table, NULL);
}

static void tear_down(void)
{
    qmp_rig_done(&rig);
}

static const char *receive(int fd)
{
    return qmp_rig_receive(&rig, fd);
}

static const char *ask(int fd, const char *text)
{
    return qmp_rig_ask(&rig, fd, text);
}

/* ---- sessions -------------------------------------------------------------------------------- */

START_TEST(session_begins_with_capabilities)
{
    int fd = qmp_rig_connect(&rig);

    ck_assert(strstr(receive(fd), "\"capabilities\":[]"));
    ck_assert_str_eq(
        ask(fd, "{\"execute\":\"query-version\",\"id\":7}"),
        "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"qmp_capabilities must come "
        "first\"},\"id\":7}\r\n");
    ck_assert(
        strstr(ask(fd, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}"),
               "GenericError"));
    ck_assert_str_eq(ask(fd, "{\"execute\":\"qmp_capabilities\"}"), "{\"return\":{}}\r\n");
    ck_assert(strstr(ask(fd, "{\"execute\":\"qmp_capabilities\"}"), "CommandNotFound"));
    ck_assert(strstr(ask(fd, "{\"execute\":\"query-version\"}"), "\"package\":\"minivmm-"));
    close(fd);
}
END_TEST

START_TEST(commands_are_listed_with_their_arguments)
{
    int fd = qmp_rig_connect_negotiated(&rig);
    const char *schema;

    ck_assert(strstr(ask(fd, "{\"execute\":\"query-commands\"}"), "{\"name\":\"echo\"}"));
    schema = ask(fd, "{\"execute\":\"query-qmp-schema\"}");
    ck_assert(strstr(schema, "{\"name\":\"echo-arguments\",\"meta-type\":\"object\",\"members\":"
                             "[{\"name\":\"text\",\"type\":\"str\"},"
                             "{\"name\":\"number\",\"type\":\"int\",\"default\":null},"));
    ck_assert(strstr(schema, "\"arg-type\":\"echo-arguments\""));
    close(fd);
}
END_TEST

START_TEST(arguments_arrive_and_wrong_ones_do_not)
{
    static const struct {
        const char *arguments;
        const char *answer;
    } cases[] = {
        {"{\"text\":\"a\"}", "{\"return\":{\"text\":\"a\",\"number\":-1,\"flag\":true}}\r\n"},
        {"{\"text\":\"\",\"number\":5,\"flag\":false}",
         "{\"return\":{\"text\":\"\",\"number\":5,\"flag\":false}}\r\n"},
        {"{}", "echo: 'text' is missing"},
        {"{\"text\":1}", "echo: 'text' must be a string"},
        {"{\"text\":null}", "echo: 'text' must be a string"},
        {"{\"text\":\"a\",\"number\":1.5}", "echo: 'number' must be an integer"},
        {"{\"text\":\"a\",\"number\":true}", "echo: 'number' must be an integer"},
        {"{\"text\":\"a\",\"flag\":0}", "echo: 'flag' must be true or false"},
        {"{\"text\":\"a\",\"more\":0}", "echo takes no argument 'more'"},
        {"[]", "'arguments' must be an object"},
    };
    int fd = qmp_rig_connect_negotiated(&rig);
    char text[256];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(text, sizeof(text), "{\"execute\":\"echo\",\"arguments\":%s}", cases[i].arguments);
        ck_assert(strstr(ask(fd, text), cases[i].answer));
    }
    ck_assert_uint_eq(ncalls, 2);
    close(fd);
}
END_TEST

START_TEST(requests_that_are_none_get_errors_and_the_session_goes_on)
{
    static const struct {
        const char *request;
        const char *answer;
    } cases[] = {
        {"{}", "a request needs a member 'execute'"},
        {"[]", "a request must be an object"},
        {"{\"execute\":1}", "'execute' must be a string"},
        {"{\"execute\":\"fail\",\"arg\":1}", "a request has no member 'arg'"},
        {"{\"execute\":\"nothing\",\"id\":[1,{}]}", "\"class\":\"CommandNotFound\""},
        {"{\"execute\":\"nothing\",\"id\":[1,{}]}", "\"id\":[1,{}]}"},
        {"{\"execute\":\"fail\",\"id\":null}",
         "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no such thing\"},\"id\":null}"},
        {"{\"execute\" \"fail\"}", "this is not JSON"},
        {"{\"execute\":\"fail\",\"execute\":\"fail\"}", "this is not JSON"},
        {"{\"\xff\":1}", "this is not JSON"},
        {"GET / HTTP/1.0\n", "a request begins with '{'"},
    };
    int fd = qmp_rig_connect_negotiated(&rig);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ck_assert(strstr(ask(fd, cases[i].request), cases[i].answer));
    ck_assert(strstr(ask(fd, "{\"execute\":\"query-version\"}"), "\"return\""));
    close(fd);
}
END_TEST

/* A byte longer each time: the place where it is cut goes through a character. */
START_TEST(long_texts_are_cut_and_answered)
{
    static const struct {
        const char *before;
        const char *after;
        const char *answer;
    } cases[] = {
        {"{\"execute\":\"", "\"}", "there is no command 'a"},
        {"{\"execute\":\"fail\",\"", "\":1}", "a request has no member 'a"},
        {"{\"execute\":\"echo\",\"arguments\":{\"", "\":1}}", "echo takes no argument 'a"},
        {"{\"execute\":\"repeat\",\"arguments\":{\"text\":\"", "\"}}", "\"desc\":\"a"},
    };
    int fd = qmp_rig_connect_negotiated(&rig);
    char text[1024], request[2048];

    for (size_t i = 0; i < ARRAY_SIZE(cases) * 4; i++) {
        size_t len = i % 4 + 1;

        memset(text, 'a', len);
        for (; len + 4 < 900; len += 4)
            memcpy(text + len, "\xf0\x9f\x92\xbe", 4);
        text[len] = '\0';
        snprintf(request, sizeof(request), "%s%s%s", cases[i / 4].before, text, cases[i / 4].after);
        ck_assert(strstr(ask(fd, request), cases[i / 4].answer));
        ck_assert(strstr(ask(fd, "{\"execute\":\"query-version\"}"), "\"return\""));
    }
    close(fd);
}
END_TEST

START_TEST(requests_at_once_are_answered_in_order)
{
    int fd = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask(fd, "{\"execute\":\"later\",\"id\":1}{\"execute\":\"echo\",\"arguments\":"
                             "{\"text\":\"b\"},\"id\":2} {\"execute\":\"fai"),
                     "");
    ck_assert_uint_eq(ncalls, 1);
    qmp_rig_send(fd, "l\",\"id\":3}");
    qmp_done(kept);
    ck_assert_str_eq(receive(fd),
                     "{\"return\":{},\"id\":1}\r\n"
                     "{\"return\":{\"text\":\"b\",\"number\":-1,\"flag\":true},\"id\":2}\r\n"
                     "{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no such "
                     "thing\"},\"id\":3}\r\n");
    close(fd);
}
END_TEST

/* The answer of one would be the beginning of the next. */
START_TEST(stopped_server_answers_and_begins_nothing)
{
    int fd = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask(fd, "{\"execute\":\"later\"}{\"execute\":\"fail\"}"), "");
    qmp_stop(rig.qmp);
    qmp_done(kept);
    ck_assert_str_eq(receive(fd), "{\"return\":{}}\r\n");
    ck_assert_str_eq(ask(fd, "{\"execute\":\"later\"}"), "");
    ck_assert_uint_eq(ncalls, 1);
    qmp_event(rig.qmp, "SHUTDOWN", NULL);
    ck_assert(strstr(receive(fd), "SHUTDOWN"));
    close(fd);
}
END_TEST

START_TEST(client_that_ends_its_direction_gets_its_answers)
{
    int fd = qmp_rig_connect_negotiated(&rig);

    qmp_rig_send(fd, "{\"execute\":\"later\"}{\"execute\":\"fail\"}");
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ck_assert_str_eq(receive(fd), "");
    qmp_done(kept);
    ck_assert(strstr(receive(fd), "no such thing"));
    ck_assert_str_eq(receive(fd), "EOF");
    close(fd);
}
END_TEST

START_TEST(client_that_goes_away_leaves_its_request_to_end_alone)
{
    int fd = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask(fd, "{\"execute\":\"later\"}"), "");
    close(fd);
    qmp_rig_settle(&rig);
    qmp_done(kept);
    qmp_rig_settle(&rig);
    close(qmp_rig_connect_negotiated(&rig));
}
END_TEST

START_TEST(events_go_to_all_that_negotiated)
{
    int one = qmp_rig_connect_negotiated(&rig);
    int two = qmp_rig_connect_negotiated(&rig);
    int new = qmp_rig_connect(&rig);

    ck_assert(strstr(receive(new), "QMP"));
    qmp_event(rig.qmp, "STOP", NULL);
    qmp_event(rig.qmp, "SHUTDOWN", json_pack("{s:b}", "guest", 1));
    ck_assert(strstr(receive(one), "{\"event\":\"STOP\",\"timestamp\":{\"seconds\":"));
    ck_assert(strstr(receive(two), "\"data\":{\"guest\":true}}\r\n"));
    ck_assert_str_eq(receive(new), "");
    close(one);
    close(two);
    close(new);
}
END_TEST

/* ---- hostile clients ------------------------------------------------------------------------- */

START_TEST(client_that_never_reads_is_dropped_and_others_are_served)
{
    int deaf = qmp_rig_connect_negotiated(&rig);
    int other = qmp_rig_connect_negotiated(&rig);

    for (unsigned i = 0; i < 40000; i++) {
        qmp_event(rig.qmp, "STOP", NULL);
        if (i % 1000 == 0)
            ck_assert(strstr(receive(other), "STOP"));
    }
    ck_assert(strstr(ask(other, "{\"execute\":\"query-version\"}"), "return"));
    while (strcmp(receive(deaf), "EOF") != 0)
        ;
    close(deaf);
    close(other);
    close(qmp_rig_connect_negotiated(&rig));
}
END_TEST

START_TEST(client_that_asks_without_reading_is_not_listened_to)
{
    int fd = qmp_rig_connect_negotiated(&rig);
    char text[] = "{\"execute\":\"long\"}";
    unsigned sent = 0;

    while (send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text) && sent++ < 20)
        qmp_rig_settle(&rig);
    /* All are answered, each when there is room for it. */
    for (size_t len = 0; len < (size_t)sent * 300000;) {
        const char *got = receive(fd);

        ck_assert_str_ne(got, "EOF");
        len += strlen(got);
    }
    close(fd);
}
END_TEST

START_TEST(answer_that_is_too_long_is_an_error)
{
    int fd = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask(fd, "{\"execute\":\"endless\",\"id\":1}"),
                     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"the answer is too long "
                     "for a connection: ask for less\"},\"id\":1}\r\n");
    ck_assert(strstr(ask(fd, "{\"execute\":\"fail\"}"), "no such thing"));
    close(fd);
}
END_TEST

/* Neither a part of it nor nothing, which clients would believe. */
START_TEST(answer_without_memory_is_an_error)
{
    static const char error[] =
        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"out of memory\"},"
        "\"id\":1}\r\n";
    int fd = qmp_rig_connect_negotiated(&rig);

    ck_assert_str_eq(ask(fd, "{\"execute\":\"without-memory\",\"id\":1}"), error);
    ck_assert_str_eq(ask(fd, "{\"execute\":\"without-memory-for-a-part\",\"id\":1}"), error);
    ck_assert_str_eq(ask(fd, "{\"execute\":\"do-nothing\"}"), "{\"return\":{}}\r\n");
    ck_assert(strstr(ask(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\"}}"), "return"));
    close(fd);
}
END_TEST

START_TEST(endless_text_ends_the_session)
{
    int fd = qmp_rig_connect_negotiated(&rig);
    char data[4096];
    const char *answer;

    memset(data, '[', sizeof(data));
    ck_assert_int_eq(send(fd, data, sizeof(data), MSG_NOSIGNAL), (ssize_t)sizeof(data));
    answer = receive(fd);
    ck_assert(strstr(answer, "a request is too long or nested too deep"));
    ck_assert_str_eq(receive(fd), "EOF");
    close(fd);
}
END_TEST

/* As a web browser would: the requests are in the body. */
START_TEST(post_is_no_client)
{
    int fd = qmp_rig_connect(&rig);

    ck_assert(strstr(receive(fd), "QMP"));
    qmp_rig_send(fd, "POST / HTTP/1.1\r\nHost: 127.0.0.1:4444\r\n\r\n"
                     "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"later\"}\n");
    ck_assert_str_eq(receive(fd), "{\"error\":{\"class\":\"GenericError\",\"desc\":\"a request "
                                  "begins with '{'\"}}\r\n");
    ck_assert_str_eq(receive(fd), "EOF");
    ck_assert_uint_eq(ncalls, 0);
    close(fd);
}
END_TEST

/* The client's end of a connection by a door that may be full. */
static int knock(enum qmp_door door, int expected)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    ck_assert_int_eq(qmp_add_client(rig.qmp, door, fds[0]), expected);
    return fds[1];
}

static void expect_refusal(int fd, const char *why)
{
    ck_assert_ptr_nonnull(strstr(receive(fd), why));
    ck_assert_str_eq(receive(fd), "EOF");
    close(fd);
}

START_TEST(too_many_clients_are_sent_away)
{
    int fds[QMP_CLIENTS_MAX], by_name;

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = qmp_rig_connect_negotiated(&rig);
    usleep(QMP_RIG_PATIENCE_NS / 1000);
    expect_refusal(knock(QMP_DOOR_ADDRESS, -EUSERS),
                   "{\"error\":{\"class\":\"GenericError\",\"desc\":\"too many clients are "
                   "connected\"}}\r\n");
    by_name = knock(QMP_DOOR_NAME, 0);
    ck_assert_ptr_nonnull(strstr(receive(by_name), "QMP"));
    close(by_name);
    close(fds[0]);
    qmp_rig_settle(&rig);
    fds[0] = qmp_rig_connect(&rig);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        ck_assert_str_ne(receive(fds[i]), "EOF");
        close(fds[i]);
    }
}
END_TEST

/* Half of them have negotiated and begun a request; they may stay while nobody else comes. */
START_TEST(clients_that_are_stuck_keep_nobody_out)
{
    int fds[QMP_CLIENTS_MAX], others[QMP_CLIENTS_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = i % 2 ? qmp_rig_connect(&rig) : qmp_rig_connect_negotiated(&rig);
        if (i % 2 == 0)
            ck_assert_str_eq(ask(fds[i], "{\"execute\":"), "");
    }
    usleep(QMP_RIG_PATIENCE_NS / 1000);
    /* One goes on at last. */
    ck_assert_ptr_nonnull(strstr(ask(fds[0], "\"query-version\"}"), "return"));
    ck_assert_ptr_nonnull(strstr(receive(fds[1]), "QMP"));
    for (size_t i = 1; i < ARRAY_SIZE(fds); i++) {
        others[i] = knock(QMP_DOOR_ADDRESS, 0);
        ck_assert(strstr(ask(others[i], "{\"execute\":\"qmp_capabilities\"}"), "return"));
        expect_refusal(fds[i], "others want to connect");
    }
    expect_refusal(knock(QMP_DOOR_ADDRESS, -EUSERS), "too many clients");
    ck_assert_ptr_nonnull(strstr(ask(fds[0], "{\"execute\":\"query-version\"}"), "return"));
    for (size_t i = 1; i < ARRAY_SIZE(fds); i++)
        close(others[i]);
    close(fds[0]);
}
END_TEST

static void add_tests(Suite *suite)
{
    unit_case_with(
        suite, "sessions", set_up, tear_down, session_begins_with_capabilities,
        commands_are_listed_with_their_arguments, arguments_arrive_and_wrong_ones_do_not,
        requests_that_are_none_get_errors_and_the_session_goes_on, long_texts_are_cut_and_answered,
        requests_at_once_are_answered_in_order, stopped_server_answers_and_begins_nothing,
        client_that_ends_its_direction_gets_its_answers,
        client_that_goes_away_leaves_its_request_to_end_alone, events_go_to_all_that_negotiated);
    unit_case_with(suite, "hostile", set_up, tear_down,
                   client_that_never_reads_is_dropped_and_others_are_served,
                   client_that_asks_without_reading_is_not_listened_to,
                   endless_text_ends_the_session, answer_that_is_too_long_is_an_error,
                   answer_without_memory_is_an_error, post_is_no_client,
                   too_many_clients_are_sent_away, clients_that_are_stuck_keep_nobody_out);
}

UNIT_MAIN("qmp", add_tests)
