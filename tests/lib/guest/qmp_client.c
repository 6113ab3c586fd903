/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/qmp_client.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/guest/vm.h"

#define RETRY_US 2000u

static int try_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_lt(strlen(path), sizeof(addr.sun_path));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    close(fd);
    return -1;
}

void qmp_client_connect(struct qmp_client *client, const char *path)
{
    const struct timeval limit = {.tv_sec = VM_TIMEOUT_S};
    json_t *greeting;

    *client = (struct qmp_client){.fd = -1, .events = json_array()};
    for (unsigned i = 0; client->fd < 0 && i < VM_TIMEOUT_S * 1000000u / RETRY_US; i++) {
        client->fd = try_connect(path);
        if (client->fd < 0)
            usleep(RETRY_US);
    }
    ck_assert_msg(client->fd >= 0, "nobody listens at %s", path);
    ck_assert_int_eq(setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    greeting = qmp_client_next(client);
    ck_assert(json_object_get(greeting, "QMP"));
    json_decref(greeting);
}

void qmp_client_open(struct qmp_client *client, const char *path)
{
    qmp_client_connect(client, path);
    qmp_client_do(client, "qmp_capabilities", NULL);
}

void qmp_client_close(struct qmp_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    free(client->text);
    json_decref(client->events);
    *client = (struct qmp_client){.fd = -1};
}

void qmp_client_send(struct qmp_client *client, const char *text)
{
    ck_assert_int_eq(send(client->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Receive more. False at the end. */
static bool receive(struct qmp_client *client)
{
    ssize_t n;

    client->text = realloc(client->text, client->len + 4096);
    ck_assert_ptr_nonnull(client->text);
    n = recv(client->fd, client->text + client->len, 4096, 0);
    if (n < 0)
        ck_assert_msg(errno == ECONNRESET, "no message came: %s", strerror(errno));
    client->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

json_t *qmp_client_next(struct qmp_client *client)
{
    const char *end;
    json_error_t error;
    json_t *message;
    size_t len;

    while (!client->text || !(end = memchr(client->text, '\n', client->len)))
        if (!receive(client))
            return NULL;
    len = (size_t)(end - client->text) + 1;
    message = json_loadb(client->text, len, 0, &error);
    ck_assert_msg(message != NULL, "%s: %.*s", error.text, (int)len, client->text);
    client->len -= len;
    memmove(client->text, client->text + len, client->len);
    return message;
}

void qmp_client_begin(struct qmp_client *client, const char *command, const char *arguments)
{
    char text[4096];

    snprintf(text, sizeof(text), "{\"execute\":\"%s\"%s%s}\n", command,
             arguments ? ",\"arguments\":" : "", arguments ? arguments : "");
    qmp_client_send(client, text);
}

json_t *qmp_client_answer(struct qmp_client *client)
{
    for (;;) {
        json_t *message = qmp_client_next(client);

        ck_assert_msg(message != NULL, "the connection ended before the answer came");
        if (!json_object_get(message, "event"))
            return message;
        json_array_append_new(client->events, message);
    }
}

static json_t *ask(struct qmp_client *client, const char *command, const char *arguments,
                   const char *member)
{
    json_t *answer, *value;

    qmp_client_begin(client, command, arguments);
    answer = qmp_client_answer(client);
    value = json_incref(json_object_get(answer, member));
    ck_assert_msg(value != NULL, "%s: %s", command, json_dumps(answer, 0));
    json_decref(answer);
    return value;
}

json_t *qmp_client_ask(struct qmp_client *client, const char *command, const char *arguments)
{
    return ask(client, command, arguments, "return");
}

json_t *qmp_client_ask_wrong(struct qmp_client *client, const char *command, const char *arguments)
{
    return ask(client, command, arguments, "error");
}

void qmp_client_do(struct qmp_client *client, const char *command, const char *arguments)
{
    json_decref(qmp_client_ask(client, command, arguments));
}

char *qmp_client_text(struct qmp_client *client, const char *command, const char *member)
{
    json_t *answer = qmp_client_ask(client, command, NULL);
    const char *text = json_string_value(json_object_get(answer, member));
    char *copy;

    ck_assert_msg(text != NULL, "%s: no %s", command, member);
    copy = strdup(text);
    json_decref(answer);
    return copy;
}

/* The data of a kept event, which is forgotten; NULL: it has not come yet. */
static json_t *take_event(struct qmp_client *client, const char *name)
{
    json_t *event;
    size_t i;

    json_array_foreach(client->events, i, event)
    {
        json_t *data = json_object_get(event, "data");

        if (strcmp(json_string_value(json_object_get(event, "event")), name) != 0)
            continue;
        ck_assert(
            json_is_integer(json_object_get(json_object_get(event, "timestamp"), "microseconds")));
        data = data ? json_incref(data) : json_null();
        json_array_remove(client->events, i);
        return data;
    }
    return NULL;
}

json_t *qmp_client_event(struct qmp_client *client, const char *name)
{
    json_t *data;

    while (!(data = take_event(client, name))) {
        json_t *message = qmp_client_next(client);

        ck_assert_msg(message != NULL, "the connection ended before %s", name);
        ck_assert(json_object_get(message, "event"));
        json_array_append_new(client->events, message);
    }
    return data;
}

void qmp_client_end(struct qmp_client *client)
{
    json_t *message;

    while ((message = qmp_client_next(client)))
        json_array_append_new(client->events, message);
}
