/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of QMP, QEMU's machine protocol: sessions with clients, their requests, and events.
 *
 * A client is greeted and has to answer with qmp_capabilities; afterwards its requests are carried
 * out one after the other, and each is answered once, at once or later. Several clients may be
 * there at the same time; events go to all that have negotiated. What a request may ask is in
 * tables of commands, which the owner gives. The loop's thread only.
 *
 * Specification: docs/interop/qmp-spec in QEMU's manual.
 */
#ifndef MINIVMM_CONTROL_QMP_H
#define MINIVMM_CONTROL_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/loop.h"

/* Where clients come from: those of the one take no place from those of the other. */
enum qmp_door {
    QMP_DOOR_ADDRESS, /* --qmp */
    QMP_DOOR_NAME,    /* --name */
    QMP_DOORS,
};

/* Clients at the same time, by each door. A further one takes the place of one that is stuck. */
#define QMP_CLIENTS_MAX 16u

/* Classes of errors, as clients tell them apart. */
enum qmp_error {
    QMP_GENERIC_ERROR,
    QMP_COMMAND_NOT_FOUND,
    QMP_DEVICE_NOT_ACTIVE,
    QMP_DEVICE_NOT_FOUND,
};

/* What an argument has to be. */
enum qmp_type {
    QMP_STRING,
    QMP_INTEGER,
    QMP_BOOLEAN,
    QMP_ANY,
};

/* Without pointers, so that the tables need no memory of their own in each process. */
struct qmp_arg {
    char name[24];
    enum qmp_type type;
    bool optional;
};

struct qmp_request;

/*
 * `run` is called when the arguments are what the table says. It ends the request by qmp_return or
 * qmp_fail, or sees to it that this happens later on the loop's thread; the session's next request
 * waits for that.
 */
struct qmp_command {
    const char *name;
    void (*run)(struct qmp_request *request);
    const struct qmp_arg *args;
    size_t nargs;
};

struct qmp_commands {
    const struct qmp_command *commands;
    size_t ncommands;
};

struct qmp;

struct qmp_options {
    struct loop *loop;
    /* Outlive the server; no name is in two of them. */
    const struct qmp_commands *const *tables;
    size_t ntables;
    void *opaque; /* for the commands */
    /*
     * A client is stuck that has not negotiated for so long, or has not ended a request that it
     * began. It may stay as long as there is room.
     */
    uint64_t patience_ns;
};

/* 0 or -ENOMEM. */
int qmp_new(const struct qmp_options *options, struct qmp **ret_qmp) MUST_CHECK;

/*
 * Carry out no more requests, not even when those before them are answered: what they are about is
 * going away. Events go on.
 */
void qmp_stop(struct qmp *qmp);

/*
 * Ends all sessions; what their sockets take of the output is sent. No request may be unanswered.
 */
void qmp_free(struct qmp *qmp);

/*
 * Serve a client on a connected socket, taken over in any case. 0; -errno: it is closed, and the
 * client was told (-EUSERS: too many are there).
 */
int qmp_add_client(struct qmp *qmp, enum qmp_door door, int fd) MUST_CHECK;

/* Tell all clients that have negotiated. `data` is stolen; NULL: the event has none. */
void qmp_event(struct qmp *qmp, const char *name, json_t *data);

/* {"qemu": {…}, "package": …}: our version in the form in which clients expect one. */
json_t *qmp_version(void);

/* ---- for commands ---------------------------------------------------------------------------- */

void *qmp_opaque(const struct qmp_request *request);
struct qmp *qmp_of(const struct qmp_request *request);

/* An argument of a request; for an optional one that is not there NULL, or `otherwise`. */
const char *qmp_string(const struct qmp_request *request, const char *name);
json_int_t qmp_integer(const struct qmp_request *request, const char *name, json_int_t otherwise);
bool qmp_boolean(const struct qmp_request *request, const char *name, bool otherwise);
json_t *qmp_any(const struct qmp_request *request, const char *name); /* borrowed */

/* A text from outside as JSON: what is no UTF-8 in it becomes question marks. Any thread. */
json_t *qmp_text(const char *text);

/* What to ask for instead, should the answer be too long for a connection; the text stays. */
void qmp_advise(struct qmp_request *request, const char *advice);

/*
 * End the request. `value` is stolen; NULL, or one of whose parts some could not be made: out of
 * memory, which is an error.
 */
void qmp_return(struct qmp_request *request, json_t *value);

/* End the request: it is done, and there is nothing to tell. */
void qmp_done(struct qmp_request *request);

void qmp_fail(struct qmp_request *request, enum qmp_error class, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/*
 * Requests that wait for the same thing: a list that is initialized by its owner. What is taken out
 * comes in the order in which it went in; NULL: there is none.
 */
void qmp_wait(struct list *waiting, struct qmp_request *request);
struct qmp_request *qmp_next_waiting(struct list *waiting);

/* Carry it out from the beginning: what it waited for has come. */
void qmp_again(struct qmp_request *request);

/* Call `each` for every command that the server knows. */
void qmp_each_command(const struct qmp_request *request,
                      void (*each)(const struct qmp_command *command, void *opaque), void *opaque);

#endif
