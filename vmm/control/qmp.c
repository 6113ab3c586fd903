/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/qmp.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/idle_memory.h"
#include "base/log.h"
#include "base/text.h"
#include "vmm/control/framer.h"
#include "vmm/control/wire.h"

/* What a session has read and not yet looked at, because a request is being carried out. */
#define UNREAD_MAX 8192u

/* When no request was answered for so long, or up to twice as long, memory is given back. */
#define TIDY_NS (2 * NS_PER_S)

struct qmp {
    struct qmp_options options;
    bool stopped; /* no request is carried out any more */
    struct list sessions;
    unsigned nsessions[QMP_DOORS];
    unsigned nrequests;     /* not answered yet, of sessions that are gone too */
    struct loop_timer tidy; /* armed while there were requests lately */
    bool busy;              /* there was one since it was armed */
};

struct session {
    struct qmp *qmp;
    enum qmp_door door;
    struct list link;
    struct wire wire;
    uint64_t since_ns; /* when it connected, or began a request after it has negotiated */
    struct framer framer;
    struct byte_queue unread;
    struct qmp_request *request; /* being carried out; NULL: none */
    bool negotiated;
    bool ended;   /* the client sends no more */
    bool reading; /* read_on is under way */
};

struct qmp_request {
    struct qmp *qmp;
    struct list link;                  /* among those that wait for the same */
    struct session *session;           /* NULL: the client is gone */
    json_t *id;                        /* NULL: the client gave none */
    json_t *arguments;                 /* NULL: none */
    const char *advice;                /* NULL: none */
    const struct qmp_command *command; /* once it runs */
    unsigned long nfailed;             /* allocations before it began */
    bool negotiates;                   /* the session is in use when this is answered */
};

json_t *qmp_version(void)
{
    int major = 0;
    int minor = 0;
    int micro = 0;

    (void)sscanf(MINIVMM_VERSION, "%d.%d.%d", &major, &minor, &micro); /* our own text */
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor", minor, "micro",
                     micro, "package", "minivmm-" MINIVMM_VERSION);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/*
 * An array without an element that could not be made looks like one that never had it. So failed
 * allocations are counted, on all threads that make parts of answers: too many for some requests,
 * never too few.
 */
static atomic_ulong nfailed;

#define OUT_OF_MEMORY "out of memory"

static void *allocate(size_t len)
{
    void *memory = malloc(len);

    if (!memory)
        atomic_fetch_add(&nfailed, 1);
    return memory;
}

/* ---- sending --------------------------------------------------------------------------------- */

static const char class_names[][16] = {
    [QMP_GENERIC_ERROR] = "GenericError",
    [QMP_COMMAND_NOT_FOUND] = "CommandNotFound",
    [QMP_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [QMP_DEVICE_NOT_FOUND] = "DeviceNotFound",
};

/* Steals `message`. NULL without memory. */
static char *text_of(json_t *message)
{
    char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;

    json_decref(message);
    return text;
}

/* Steals `text`. A client for whom there is no memory even for an error is dropped. */
static void send_text(struct session *session, char *text)
{
    if (!text) {
        wire_drop(&session->wire);
        return;
    }
    wire_send(&session->wire, text, strlen(text));
    wire_send(&session->wire, "\r\n", 2);
    free(text);
}

static void send_json(struct session *session, json_t *message)
{
    send_text(session, text_of(message));
}

/* A text that was cut off may end in the middle of a character. */
static json_t *error_json(enum qmp_error class, const char *text)
{
    return json_pack("{s:{s:s,s:o}}", "error", "class", class_names[class], "desc", qmp_text(text));
}

static void send_error(struct session *session, const char *text)
{
    send_json(session, error_json(QMP_GENERIC_ERROR, text));
}

static json_t *timestamp(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return json_pack("{s:I,s:I}", "seconds", (json_int_t)now.tv_sec, "microseconds",
                     (json_int_t)(now.tv_nsec / 1000));
}

void qmp_event(struct qmp *qmp, const char *name, json_t *data)
{
    list_for_each (link, &qmp->sessions) {
        struct session *session = container_of(link, struct session, link);
        json_t *event;

        if (!session->negotiated)
            continue;
        event = json_pack("{s:s,s:o}", "event", name, "timestamp", timestamp());
        if (event && data)
            json_object_set(event, "data", data);
        send_json(session, event);
    }
    json_decref(data);
}

static void greet(struct session *session)
{
    send_json(session,
              json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(), "capabilities"));
}

static void note_work(struct qmp *qmp)
{
    qmp->busy = true;
    if (qmp->tidy.loop)
        return;
    idle_memory_work_begins();
    loop_arm(qmp->options.loop, &qmp->tidy, TIDY_NS);
}

/* Answers take memory by the hundred KiB: what nobody needs any more goes back to the host. */
static void on_tidy(struct loop_timer *timer)
{
    struct qmp *qmp = container_of(timer, struct qmp, tidy);

    if (qmp->busy) {
        qmp->busy = false;
        loop_arm(qmp->options.loop, timer, TIDY_NS);
        return;
    }
    idle_memory_work_ends();
}

/* ---- the end of a request -------------------------------------------------------------------- */

static void read_on(struct session *session);

/* Longer answers would not fit beside what may be waiting to be sent already. */
#define ANSWER_MAX (WIRE_OUT_MAX - 2 * WIRE_OUT_BUSY)

static json_t *too_long_json(const struct qmp_request *request)
{
    char text[ERR_MSG_MAX];

    snprintf(text, sizeof(text), "the answer is too long for a connection%s%s",
             request->advice ? ": " : "", request->advice ? request->advice : "");
    return error_json(QMP_GENERIC_ERROR, text);
}

/* Steals `answer`. */
static char *text_with_id(const struct qmp_request *request, json_t *answer)
{
    if (answer && request->id)
        json_object_set(answer, "id", request->id);
    return text_of(answer);
}

/* Steals `answer`. */
static void send_answer(struct session *session, const struct qmp_request *request, json_t *answer)
{
    char *text = text_with_id(request, answer);

    if (!text) {
        text = text_with_id(request, error_json(QMP_GENERIC_ERROR, OUT_OF_MEMORY));
    } else if (strlen(text) > ANSWER_MAX) {
        free(text);
        text = text_with_id(request, too_long_json(request));
    }
    send_text(session, text);
}

/* Steals `answer`, which lacks only the request's id. */
static void finish(struct qmp_request *request, json_t *answer)
{
    struct session *session = request->session;

    if (session) {
        session->request = NULL;
        send_answer(session, request, answer);
        wire_pause(&session->wire, false);
    } else {
        json_decref(answer);
    }
    request->qmp->nrequests--;
    note_work(request->qmp);
    json_decref(request->id);
    json_decref(request->arguments);
    free(request);
    if (session)
        read_on(session);
}

void qmp_advise(struct qmp_request *request, const char *advice)
{
    request->advice = advice;
}

void qmp_return(struct qmp_request *request, json_t *value)
{
    if (value && atomic_load(&nfailed) == request->nfailed) {
        finish(request, json_pack("{s:o}", "return", value));
        return;
    }
    json_decref(value);
    finish(request, error_json(QMP_GENERIC_ERROR, OUT_OF_MEMORY));
}

void qmp_done(struct qmp_request *request)
{
    if (request->negotiates && request->session)
        request->session->negotiated = true;
    finish(request, json_pack("{s:{}}", "return"));
}

void qmp_fail(struct qmp_request *request, enum qmp_error class, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut off where too long */
    va_end(args);
    finish(request, error_json(class, text));
}

/* ---- its beginning --------------------------------------------------------------------------- */

static const struct qmp_command *find_command(const struct qmp *qmp, const char *name)
{
    for (size_t i = 0; i < qmp->options.ntables; i++) {
        const struct qmp_commands *table = qmp->options.tables[i];

        for (size_t k = 0; k < table->ncommands; k++)
            if (strcmp(table->commands[k].name, name) == 0)
                return &table->commands[k];
    }
    return NULL;
}

static bool has_type(const json_t *value, enum qmp_type type)
{
    switch (type) {
    case QMP_STRING:
        return json_is_string(value);
    case QMP_INTEGER:
        return json_is_integer(value);
    case QMP_BOOLEAN:
        return json_is_boolean(value);
    case QMP_ANY:
        return true;
    }
    return false;
}

static const struct qmp_arg *find_arg(const struct qmp_command *command, const char *name)
{
    for (size_t i = 0; i < command->nargs; i++)
        if (strcmp(command->args[i].name, name) == 0)
            return &command->args[i];
    return NULL;
}

/* Are the arguments what the command's table says? Otherwise `text` tells what is wrong. */
static bool check_arguments(const struct qmp_command *command, json_t *arguments, char *text,
                            size_t size)
{
    static const char type_names[][16] = {
        [QMP_STRING] = "a string",
        [QMP_INTEGER] = "an integer",
        [QMP_BOOLEAN] = "true or false",
        [QMP_ANY] = "anything",
    };
    const char *name;
    json_t *value;

    json_object_foreach(arguments, name, value)
    {
        const struct qmp_arg *arg = find_arg(command, name);

        if (!arg)
            snprintf(text, size, "%s takes no argument '%.64s'", command->name, name);
        else if (!has_type(value, arg->type))
            snprintf(text, size, "%s: '%s' must be %s", command->name, name, type_names[arg->type]);
        else
            continue;
        return false;
    }
    for (size_t i = 0; i < command->nargs; i++) {
        if (command->args[i].optional || json_object_get(arguments, command->args[i].name))
            continue;
        snprintf(text, size, "%s: '%s' is missing", command->name, command->args[i].name);
        return false;
    }
    return true;
}

/* Is the message a request as far as its own members go? Otherwise `text` tells what is wrong. */
static bool check_message(json_t *message, char *text, size_t size)
{
    const char *name;
    json_t *value;

    text[0] = '\0';
    if (!json_is_object(message)) {
        snprintf(text, size, "a request must be an object");
        return false;
    }
    json_object_foreach(message, name, value)
    {
        if (strcmp(name, "execute") == 0 && !json_is_string(value))
            snprintf(text, size, "'execute' must be a string");
        else if (strcmp(name, "arguments") == 0 && !json_is_object(value))
            snprintf(text, size, "'arguments' must be an object");
        else if (strcmp(name, "execute") != 0 && strcmp(name, "arguments") != 0 &&
                 strcmp(name, "id") != 0)
            snprintf(text, size, "a request has no member '%.64s'", name);
    }
    if (!text[0] && !json_object_get(message, "execute"))
        snprintf(text, size, "a request needs a member 'execute'");
    return !text[0];
}

/* Before qmp_capabilities nothing else, and afterwards not that again. */
static bool fits_state(const struct session *session, const char *name, struct qmp_request *request)
{
    bool negotiates = strcmp(name, "qmp_capabilities") == 0;

    if (negotiates != session->negotiated) {
        request->negotiates = negotiates;
        return true;
    }
    if (negotiates)
        qmp_fail(request, QMP_COMMAND_NOT_FOUND, "capabilities have been negotiated already");
    else
        qmp_fail(request, QMP_COMMAND_NOT_FOUND, "qmp_capabilities must come first");
    return false;
}

static void run_command(struct qmp_request *request, const struct qmp_command *command)
{
    request->command = command;
    command->run(request);
}

static void run_request(struct session *session, struct qmp_request *request, const char *name)
{
    const struct qmp_command *command = find_command(session->qmp, name);
    char text[ERR_MSG_MAX];

    if (!fits_state(session, name, request))
        return;
    if (!command)
        qmp_fail(request, QMP_COMMAND_NOT_FOUND, "there is no command '%.64s'", name);
    else if (!check_arguments(command, request->arguments, text, sizeof(text)))
        qmp_fail(request, QMP_GENERIC_ERROR, "%s", text);
    else
        run_command(request, command);
}

/* Borrows `message`. */
static void begin_request(struct session *session, json_t *message)
{
    struct qmp_request *request = calloc(1, sizeof(*request));
    char text[ERR_MSG_MAX];

    if (!request) {
        wire_drop(&session->wire);
        return;
    }
    request->qmp = session->qmp;
    request->nfailed = atomic_load(&nfailed);
    request->session = session;
    request->id = json_incref(json_object_get(message, "id"));
    request->arguments = json_incref(json_object_get(message, "arguments"));
    session->qmp->nrequests++;
    session->request = request;
    wire_pause(&session->wire, true);
    if (check_message(message, text, sizeof(text)))
        run_request(session, request, json_string_value(json_object_get(message, "execute")));
    else
        qmp_fail(request, QMP_GENERIC_ERROR, "%s", text);
}

static void take_text(struct session *session)
{
    json_error_t error;
    json_t *message =
        json_loadb(session->framer.text, session->framer.len, JSON_REJECT_DUPLICATES, &error);
    char text[ERR_MSG_MAX];

    if (!message) {
        snprintf(text, sizeof(text), "this is not JSON: %s", error.text);
        send_error(session, text);
        return;
    }
    begin_request(session, message);
    json_decref(message);
}

/* ---- sessions -------------------------------------------------------------------------------- */

/*
 * Who begins like this is no client: a web page, say, that sends a POST to a port of this machine,
 * with requests in it.
 */
static void refuse_garbage(struct session *session)
{
    send_error(session, "a request begins with '{'");
    if (!session->negotiated)
        wire_finish(&session->wire);
}

static void refuse_stream(struct session *session)
{
    send_error(session, "a request is too long or nested too deep");
    wire_finish(&session->wire);
}

/* Take one step in what was read. False: there is no more to do now. */
static bool read_step(struct session *session)
{
    enum framer_result result;
    size_t taken;

    if (session->qmp->stopped || session->request || session->unread.len == 0 ||
        session->wire.broken || session->wire.finishing || wire_is_busy(&session->wire))
        return false;
    if (session->negotiated && !framer_is_inside(&session->framer))
        session->since_ns = monotonic_ns();
    result = framer_feed(&session->framer, (const char *)byte_queue_front(&session->unread),
                         session->unread.len, &taken);
    byte_queue_consume(&session->unread, taken);
    switch (result) {
    case FRAMER_MORE:
        break;
    case FRAMER_TEXT:
        take_text(session);
        break;
    case FRAMER_GARBAGE:
        refuse_garbage(session);
        break;
    case FRAMER_TOO_LONG:
        refuse_stream(session);
        break;
    }
    return true;
}

/*
 * Carry out what was read, up to a request that is answered later. An answer at once calls this
 * again from within; that call does nothing, and this loop goes on.
 */
static void read_on(struct session *session)
{
    if (session->reading)
        return;
    session->reading = true;
    while (read_step(session))
        ;
    session->reading = false;
    if (session->ended && !session->request && session->unread.len == 0)
        wire_finish(&session->wire);
}

static void on_received(struct wire *wire, const char *data, size_t len)
{
    struct session *session = container_of(wire, struct session, wire);

    if (byte_queue_append(&session->unread, (const uint8_t *)data, len, UNREAD_MAX) < len)
        wire_drop(wire);
    read_on(session);
}

static void on_drained(struct wire *wire)
{
    read_on(container_of(wire, struct session, wire));
}

static void on_ended(struct wire *wire)
{
    struct session *session = container_of(wire, struct session, wire);

    session->ended = true;
    read_on(session);
}

static void free_session(struct session *session)
{
    if (session->request)
        session->request->session = NULL;
    session->qmp->nsessions[session->door]--;
    list_remove(&session->link);
    byte_queue_done(&session->unread);
    framer_done(&session->framer);
    free(session);
}

static void on_closed(struct wire *wire)
{
    free_session(container_of(wire, struct session, wire));
}

static const struct wire_ops session_ops = {
    .received = on_received,
    .drained = on_drained,
    .ended = on_ended,
    .closed = on_closed,
};

/* ---- clients come ---------------------------------------------------------------------------- */

static bool is_stuck(const struct session *session, uint64_t now_ns)
{
    return !session->wire.broken && (!session->negotiated || framer_is_inside(&session->framer)) &&
           now_ns - session->since_ns >= session->qmp->options.patience_ns;
}

/* Send one away that is stuck. False: there is none. */
static bool make_room(struct qmp *qmp, enum qmp_door door)
{
    const uint64_t now_ns = monotonic_ns();

    list_for_each (link, &qmp->sessions) {
        struct session *session = container_of(link, struct session, link);

        if (session->door != door || !is_stuck(session, now_ns))
            continue;
        send_error(session, "others want to connect, and this client has been waited for");
        wire_drop(&session->wire);
        return true;
    }
    return false;
}

/* Without a session: what the socket does not take at once is lost. */
static void refuse(int fd, const char *text)
{
    char *line = text_of(error_json(QMP_GENERIC_ERROR, text));

    if (line) {
        (void)!send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)!send(fd, "\r\n", 2, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    free(line);
    close(fd);
}

int qmp_add_client(struct qmp *qmp, enum qmp_door door, int fd)
{
    struct session *session;
    int r;

    if (qmp->nsessions[door] >= QMP_CLIENTS_MAX && !make_room(qmp, door)) {
        refuse(fd, "too many clients are connected");
        return -EUSERS;
    }
    session = calloc(1, sizeof(*session));
    if (!session) {
        close(fd);
        return -ENOMEM;
    }
    r = wire_open(&session->wire, &session_ops, qmp->options.loop, fd);
    if (r < 0) {
        free(session);
        return r;
    }
    session->qmp = qmp;
    session->door = door;
    session->since_ns = monotonic_ns();
    list_add_tail(&qmp->sessions, &session->link);
    qmp->nsessions[door]++;
    greet(session);
    return 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

int qmp_new(const struct qmp_options *options, struct qmp **ret_qmp)
{
    struct qmp *qmp = calloc(1, sizeof(*qmp));

    if (!qmp)
        return -ENOMEM;
    json_set_alloc_funcs(allocate, free);
    qmp->options = *options;
    qmp->tidy.expired = on_tidy;
    list_init(&qmp->sessions);
    *ret_qmp = qmp;
    return 0;
}

void qmp_stop(struct qmp *qmp)
{
    qmp->stopped = true;
}

void qmp_free(struct qmp *qmp)
{
    if (!qmp)
        return;
    assert(qmp->nrequests == 0);
    if (qmp->tidy.loop)
        idle_memory_work_leaves();
    loop_disarm(&qmp->tidy);
    list_for_each_safe (link, &qmp->sessions) {
        struct session *session = container_of(link, struct session, link);

        wire_close(&session->wire);
        free_session(session);
    }
    free(qmp);
}

json_t *qmp_text(const char *text)
{
    json_t *json = json_string(text);
    char *copy = json ? NULL : strdup(text);

    if (json || !copy)
        return json;
    text_replace_non_utf8(copy);
    json = json_string(copy);
    free(copy);
    return json;
}

/* ---- for commands ---------------------------------------------------------------------------- */

struct qmp *qmp_of(const struct qmp_request *request)
{
    return request->qmp;
}

void *qmp_opaque(const struct qmp_request *request)
{
    return request->qmp->options.opaque;
}

json_t *qmp_any(const struct qmp_request *request, const char *name)
{
    return json_object_get(request->arguments, name);
}

const char *qmp_string(const struct qmp_request *request, const char *name)
{
    return json_string_value(qmp_any(request, name));
}

json_int_t qmp_integer(const struct qmp_request *request, const char *name, json_int_t otherwise)
{
    json_t *value = qmp_any(request, name);

    return value ? json_integer_value(value) : otherwise;
}

bool qmp_boolean(const struct qmp_request *request, const char *name, bool otherwise)
{
    json_t *value = qmp_any(request, name);

    return value ? json_is_true(value) : otherwise;
}

void qmp_wait(struct list *waiting, struct qmp_request *request)
{
    list_add_tail(waiting, &request->link);
}

struct qmp_request *qmp_next_waiting(struct list *waiting)
{
    struct qmp_request *request;

    if (list_is_empty(waiting))
        return NULL;
    request = container_of(waiting->next, struct qmp_request, link);
    list_remove(&request->link);
    return request;
}

void qmp_again(struct qmp_request *request)
{
    request->command->run(request);
}

void qmp_each_command(const struct qmp_request *request,
                      void (*each)(const struct qmp_command *command, void *opaque), void *opaque)
{
    const struct qmp *qmp = request->qmp;

    for (size_t i = 0; i < qmp->options.ntables; i++)
        for (size_t k = 0; k < qmp->options.tables[i]->ncommands; k++)
            each(&qmp->options.tables[i]->commands[k], opaque);
}
