/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a VM's control socket, as anybody could write one. What it expects and does not get
 * fails the test.
 */
#ifndef MINIVMM_TESTS_QMP_CLIENT_H
#define MINIVMM_TESTS_QMP_CLIENT_H

#include <jansson.h>
#include <stddef.h>

struct qmp_client {
    int fd;
    char *text; /* received and not yet looked at */
    size_t len;
    json_t *events; /* received and not yet waited for */
};

/* Connect to the unix socket `path`, which may not be there yet; answer the greeting. */
void qmp_client_open(struct qmp_client *client, const char *path);

/* The same without the answer. */
void qmp_client_connect(struct qmp_client *client, const char *path);

void qmp_client_close(struct qmp_client *client);

/* Send a text as it is. */
void qmp_client_send(struct qmp_client *client, const char *text);

/* The next message, to be freed; NULL at the end of the connection. */
json_t *qmp_client_next(struct qmp_client *client);

/*
 * Ask, with arguments in JSON or NULL. The answer's "return", or its "error": to be freed. Events
 * that come before it are kept.
 */
json_t *qmp_client_ask(struct qmp_client *client, const char *command, const char *arguments);
json_t *qmp_client_ask_wrong(struct qmp_client *client, const char *command, const char *arguments);

/* The same in steps: ask, and take the next answer. */
void qmp_client_begin(struct qmp_client *client, const char *command, const char *arguments);
json_t *qmp_client_answer(struct qmp_client *client);

/* Ask what returns nothing that matters. */
void qmp_client_do(struct qmp_client *client, const char *command, const char *arguments);

/* A text in the answer to a command without arguments; to be freed. */
char *qmp_client_text(struct qmp_client *client, const char *command, const char *member);

/* Wait for an event, or find it among those kept; its "data", to be freed (null: it has none). */
json_t *qmp_client_event(struct qmp_client *client, const char *name);

/* Wait until the connection ends; events on the way are kept. */
void qmp_client_end(struct qmp_client *client);

#endif
