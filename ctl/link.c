/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/vm_names.h"
#include "ctl/message.h"
#include "ctl/socket.h"

#define TCP_PREFIX "tcp:"

#define CHUNK 8192u

struct link {
    int fd;
    pid_t pid;
    unsigned timeout_ms;
    uint64_t deadline_ns; /* of the call that is under way */
    uint64_t last_ns;     /* of all of them */
    struct byte_queue received;
    size_t nscanned; /* of `received`, without a line end */
    size_t ntaken;   /* at its front: the line of the message that was returned last */
    json_int_t last_id;
    struct byte_queue events; /* lines: as values they would take a multiple of the memory */
};

/* ---- time ------------------------------------------------------------------------------------ */

static void begin_call(struct link *link)
{
    link->deadline_ns = min_u64(monotonic_ns() + link->timeout_ms * NS_PER_MS, link->last_ns);
}

/* Wait for the socket. 0, -ETIMEDOUT or another -errno. */
static int wait_for(const struct link *link, short events)
{
    for (;;) {
        struct pollfd pfd = {.fd = link->fd, .events = events};
        uint64_t now = monotonic_ns();
        uint64_t left_ms;
        int n;

        if (now >= link->deadline_ns)
            return -ETIMEDOUT;
        left_ms = (link->deadline_ns - now) / NS_PER_MS + 1;
        n = poll(&pfd, 1, (int)min_u64(left_ms, INT32_MAX));
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static int fail(int r, struct err *err)
{
    switch (r) {
    case -ETIMEDOUT:
        return err_set(err, r, "no answer in time");
    case -ECONNRESET:
    case -EPIPE:
        return err_set(err, -ECONNRESET, "the connection has ended");
    case -EPROTO:
        return err_set(err, r, "what answers there does not speak QMP");
    case -EMSGSIZE:
        return err_set(err, -EPROTO, "an answer of more than %zu MiB: that is no VM",
                       LINK_MESSAGE_MAX >> 20);
    case -ENOMEM:
        return err_set(err, r, "out of memory");
    default:
        return err_set_errno(err, r, "the control socket");
    }
}

static int send_all(struct link *link, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(link->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        int r = 0;

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            r = wait_for(link, POLLOUT);
        } else if (errno != EINTR) {
            r = -errno;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int receive(struct link *link)
{
    uint8_t data[CHUNK];
    int r = wait_for(link, POLLIN);
    ssize_t n = r < 0 ? 0 : recv(link->fd, data, sizeof(data), MSG_DONTWAIT);

    if (r < 0)
        return r;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    if (link->received.len + (size_t)n > LINK_MESSAGE_MAX)
        return -EMSGSIZE;
    if (byte_queue_append(&link->received, data, (size_t)n, SIZE_MAX) < (size_t)n)
        return -ENOMEM;
    return 0;
}

/* Wait until `received` begins with a line, and return its length without the line end. */
static int next_line(struct link *link, size_t *ret_len)
{
    for (;;) {
        const char *text = (const char *)byte_queue_front(&link->received);
        const char *end = memchr(text + link->nscanned, '\n', link->received.len - link->nscanned);
        int r;

        if (end) {
            *ret_len = (size_t)(end - text);
            return 0;
        }
        link->nscanned = link->received.len;
        r = receive(link);
        if (r < 0)
            return r;
    }
}

/* The next line: a message, which is to be freed. */
static int next_message(struct link *link, json_t **ret_message)
{
    json_t *message;
    size_t len;
    int r;

    byte_queue_consume(&link->received, link->ntaken);
    link->ntaken = 0;
    link->nscanned = 0;
    r = next_line(link, &len);
    if (r < 0)
        return r;
    link->ntaken = len + 1;
    message = json_loadb((const char *)byte_queue_front(&link->received), len, 0, NULL);
    if (!json_is_object(message)) {
        json_decref(message);
        return -EPROTO;
    }
    *ret_message = message;
    return 0;
}

/* The message that was returned last is an event, and stays until somebody asks for it. */
static void keep_event(struct link *link)
{
    struct byte_queue *events = &link->events;

    if (link->ntaken > LINK_EVENTS_MAX)
        return;
    while (events->len + link->ntaken > LINK_EVENTS_MAX) {
        const uint8_t *oldest = byte_queue_front(events);
        const uint8_t *end = memchr(oldest, '\n', events->len);

        byte_queue_consume(events, (size_t)(end - oldest) + 1);
    }
    (void)byte_queue_append(events, byte_queue_front(&link->received), link->ntaken, SIZE_MAX);
}

/* The oldest event that was kept, to be freed; NULL: there is none. */
static json_t *kept_event(struct link *link)
{
    const char *text = (const char *)byte_queue_front(&link->events);
    const char *end = memchr(text, '\n', link->events.len);
    json_t *event = end ? json_loadb(text, (size_t)(end - text), 0, NULL) : NULL;

    if (end)
        byte_queue_consume(&link->events, (size_t)(end - text) + 1);
    return event;
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* The port in tcp:127.0.0.1:PORT. */
static int parse_tcp(const char *address, uint16_t *ret_port, struct err *err)
{
    static const char *const hosts[] = {TCP_PREFIX "127.0.0.1:", TCP_PREFIX "localhost:"};
    uint64_t port;

    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
        size_t len = strlen(hosts[i]);

        if (strncmp(address, hosts[i], len) == 0 && parse_u64(address + len, &port) == 0 &&
            port > 0 && port <= UINT16_MAX) {
            *ret_port = (uint16_t)port;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "%s: expected tcp:127.0.0.1:PORT", address);
}

static int connect_tcp(struct link *link, const char *address, struct err *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(int);
    uint16_t port = 0;
    int error = 0;
    int r = parse_tcp(address, &port, err);

    if (r < 0)
        return r;
    addr.sin_port = htons(port);
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (link->fd < 0)
        return err_set_errno(err, -errno, "%s", address);
    if (connect(link->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        r = errno == EINPROGRESS ? wait_for(link, POLLOUT) : -errno;
    if (r == 0)
        r = getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
    return r < 0 ? err_set_errno(err, r, "%s", address) : 0;
}

static int connect_to(struct link *link, const char *address, struct err *err)
{
    if (strncmp(address, TCP_PREFIX, strlen(TCP_PREFIX)) == 0)
        return connect_tcp(link, address, err);
    return socket_connect(address, link->deadline_ns, &link->fd, &link->pid, err);
}

int link_connect(const char *address, unsigned timeout_ms, struct link **ret_link, struct err *err)
{
    struct link *link = calloc(1, sizeof(*link));
    int r;

    if (!link) {
        fail(-ENOMEM, err);
        return -ENOMEM;
    }
    link->fd = -1;
    link->timeout_ms = timeout_ms;
    link->last_ns = UINT64_MAX;
    begin_call(link);
    r = connect_to(link, address, err);
    if (r < 0)
        link_close(link);
    else
        *ret_link = link;
    return r;
}

void link_close(struct link *link)
{
    if (!link)
        return;
    if (link->fd >= 0)
        close(link->fd);
    byte_queue_done(&link->received);
    byte_queue_done(&link->events);
    free(link);
}

pid_t link_pid(const struct link *link)
{
    return link->pid;
}

void link_set_timeout(struct link *link, unsigned timeout_ms)
{
    link->timeout_ms = timeout_ms;
}

void link_set_deadline(struct link *link, uint64_t deadline_ns)
{
    link->last_ns = deadline_ns;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/*
 * In one piece with its line end: the server may carry it out when it has the last bracket, and
 * then be gone before the rest comes.
 */
static int send_request(struct link *link, const char *command, json_t *arguments)
{
    json_t *request = json_pack("{s:s,s:o*,s:I}", "execute", command, "arguments", arguments, "id",
                                ++link->last_id);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    size_t len = text ? strlen(text) : 0;
    int r = -ENOMEM;

    if (text) {
        text[len] = '\n'; /* in place of the end of the string */
        r = send_all(link, text, len + 1);
    }
    free(text);
    json_decref(request);
    return r;
}

/* Steals the message. True: it is the answer to our last request. */
static bool is_answer(struct link *link, json_t *message)
{
    const json_t *id = json_object_get(message, "id");

    if (json_object_get(message, "event")) {
        keep_event(link);
        json_decref(message);
        return false;
    }
    /* An answer to what the server could not read has none. */
    if (!id || json_integer_value(id) == link->last_id)
        return true;
    json_decref(message);
    return false;
}

static int next_answer(struct link *link, json_t **ret_answer)
{
    int r;

    do {
        r = next_message(link, ret_answer);
    } while (r == 0 && !is_answer(link, *ret_answer));
    return r;
}

/* What the answer says. It is the VM's text, whatever that is. */
static int read_answer(const json_t *answer, json_t **ret_value, struct err *err)
{
    const json_t *error = json_object_get(answer, "error");
    json_t *value = json_object_get(answer, "return");
    const char *desc = json_string_value(json_object_get(error, "desc"));

    if (error)
        return err_set(err, CTL_REMOTE_ERROR, "%s", desc ? desc : "an error without a description");
    if (!value)
        return fail(-EPROTO, err);
    if (ret_value)
        *ret_value = json_incref(value);
    return 0;
}

/* As link_ask, within the call that is under way. */
static int ask(struct link *link, const char *command, json_t *arguments, json_t **ret_value,
               struct err *err)
{
    json_t *answer = NULL;
    int r = send_request(link, command, arguments);

    if (r == 0)
        r = next_answer(link, &answer);
    if (r < 0)
        return fail(r, err);
    r = read_answer(answer, ret_value, err);
    json_decref(answer);
    return r;
}

int link_ask(struct link *link, const char *command, json_t *arguments, json_t **ret_value,
             struct err *err)
{
    begin_call(link);
    return ask(link, command, arguments, ret_value, err);
}

int link_next_event(struct link *link, json_t **ret_event, struct err *err)
{
    json_t *event = kept_event(link);

    begin_call(link);
    while (!json_object_get(event, "event")) {
        int r;

        json_decref(event); /* an answer to nobody */
        event = NULL;
        r = next_message(link, &event);
        if (r < 0)
            return fail(r, err);
    }
    *ret_event = event;
    return 0;
}

/* ---- agreeing on the protocol ---------------------------------------------------------------- */

/* Within the call that is under way. */
static int negotiate(struct link *link, struct err *err)
{
    json_t *greeting = NULL;
    int r = next_message(link, &greeting);

    if (r == 0 && !json_object_get(greeting, "QMP"))
        r = -EPROTO;
    json_decref(greeting);
    return r < 0 ? fail(r, err) : ask(link, "qmp_capabilities", NULL, NULL, err);
}

int link_negotiate(struct link *link, struct err *err)
{
    begin_call(link);
    return negotiate(link, err);
}

int link_open(const char *address, unsigned timeout_ms, struct link **ret_link, struct err *err)
{
    struct link *link = NULL;
    int r = link_connect(address, timeout_ms, &link, err);

    if (r < 0)
        return r;
    r = negotiate(link, err);
    if (r < 0)
        link_close(link);
    else
        *ret_link = link;
    return r;
}
