/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vmm/control/listener.h"
#include "vmm/control/wire.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/session.h"

/* What a second gdb shows its user: an error whose text follows the dot. */
#define BUSY "E.another gdb debugs this guest"

struct gdb_server {
    struct loop *loop;
    struct gdb_target *target;
    struct listener *listener;
    struct gdb_session_user user;
    struct gdb_session *session; /* NULL: nobody is connected */
    struct wire wire;
    bool connected;         /* the wire is open */
    bool listens;           /* the session takes packets */
    bool frozen;            /* and nobody reads them */
    int next_fd;            /* of who came while the one before was leaving; -1: nobody */
    struct loop_work clean; /* frees what is over */
};

/* ---- the session's side ---------------------------------------------------------------------- */

static struct gdb_server *server_of(struct gdb_session_user *user)
{
    return container_of(user, struct gdb_server, user);
}

static void user_send(struct gdb_session_user *user, const char *bytes, size_t len)
{
    struct gdb_server *server = server_of(user);

    if (server->connected)
        wire_send(&server->wire, bytes, len);
}

static void set_reading(struct gdb_server *server)
{
    if (server->connected)
        wire_pause(&server->wire, server->frozen || !server->listens);
}

static void user_listen(struct gdb_session_user *user, bool listen)
{
    struct gdb_server *server = server_of(user);

    server->listens = listen;
    set_reading(server);
}

/* Everything has been sent, or is given up; then there is room for the next gdb. */
static void user_over(struct gdb_session_user *user)
{
    struct gdb_server *server = server_of(user);

    if (server->connected)
        wire_finish(&server->wire);
    else
        loop_post(server->loop, &server->clean);
}

/* ---- the wire's side ------------------------------------------------------------------------- */

static struct gdb_server *server_at(struct wire *wire)
{
    return container_of(wire, struct gdb_server, wire);
}

static void on_received(struct wire *wire, const char *data, size_t len)
{
    gdb_session_input(server_at(wire)->session, data, len);
}

static void on_drained(struct wire *wire)
{
}

static void on_ended(struct wire *wire)
{
    wire_drop(wire);
}

/* A session that is over already has done so for us; one that is not will say when it is. */
static void on_closed(struct wire *wire)
{
    struct gdb_server *server = server_at(wire);

    server->connected = false;
    if (!gdb_session_is_over(server->session))
        gdb_session_hang_up(server->session);
    else
        loop_post(server->loop, &server->clean);
}

static const struct wire_ops wire_ops = {
    .received = on_received,
    .drained = on_drained,
    .ended = on_ended,
    .closed = on_closed,
};

/* ---- clients --------------------------------------------------------------------------------- */

/*
 * A new socket takes these few bytes at once. What it sent is read, or it would not hear of them.
 */
static int turn_away(int fd)
{
    struct gdb_reply *reply = malloc(sizeof(*reply)); /* too large for the stack */
    char sent[256];

    if (reply) {
        gdb_reply_begin(reply);
        gdb_reply_text(reply, BUSY);
        gdb_reply_end(reply);
        (void)!send(fd, reply->data, reply->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        free(reply);
    }
    (void)!recv(fd, sent, sizeof(sent), MSG_DONTWAIT);
    close(fd);
    return 0;
}

static int take(struct gdb_server *server, int fd)
{
    int r = wire_open(&server->wire, &wire_ops, server->loop, fd);

    if (r < 0)
        return r;
    server->connected = true;
    server->listens = true;
    set_reading(server);
    r = gdb_session_new(server->target, &server->user, &server->session);
    if (r < 0) {
        server->connected = false;
        wire_close(&server->wire);
    }
    return r;
}

/* One that is leaving makes room soon: it is no reason to turn the next one away. */
static int on_client(int fd, void *opaque)
{
    struct gdb_server *server = opaque;
    bool leaving = !server->connected || wire_is_ending(&server->wire);

    if (!server->session)
        return take(server, fd);
    if (!leaving || server->next_fd >= 0)
        return turn_away(fd);
    server->next_fd = fd;
    return 0;
}

static void clean(struct loop_work *work)
{
    struct gdb_server *server = container_of(work, struct gdb_server, clean);
    int fd = server->next_fd;

    gdb_session_free(server->session);
    server->session = NULL;
    server->next_fd = -1;
    if (fd >= 0 && take(server, fd) < 0)
        log_warn("gdb: out of memory: a client is sent away");
}

/* ---- the target's side ----------------------------------------------------------------------- */

void gdb_server_stopped(struct gdb_server *server, const struct gdb_stop *stop)
{
    if (server->session)
        gdb_session_stopped(server->session, stop);
}

void gdb_server_freeze(struct gdb_server *server, bool freeze)
{
    server->frozen = freeze;
    set_reading(server);
}

void gdb_server_restarted(struct gdb_server *server)
{
    if (server->session)
        gdb_session_restarted(server->session);
}

void gdb_server_exited(struct gdb_server *server, unsigned code)
{
    if (server->session)
        gdb_session_exited(server->session, code);
}

/* ---- life ------------------------------------------------------------------------------------ */

int gdb_server_new(struct loop *loop, const char *address, struct gdb_target *target,
                   struct gdb_server **ret_server, struct err *err)
{
    struct gdb_server *server = calloc(1, sizeof(*server));
    int r;

    if (!server)
        return err_set(err, -ENOMEM, "--gdb: out of memory");
    server->loop = loop;
    server->target = target;
    server->user =
        (struct gdb_session_user){.send = user_send, .listen = user_listen, .over = user_over};
    server->clean.run = clean;
    server->next_fd = -1;
    r = listener_new(loop, address, on_client, server, &server->listener, err);
    if (r < 0) {
        free(server);
        err_prefix(err, "--gdb");
        return r;
    }
    *ret_server = server;
    return 0;
}

void gdb_server_free(struct gdb_server *server)
{
    if (!server)
        return;
    listener_free(server->listener);
    if (server->connected)
        wire_close(&server->wire);
    if (server->next_fd >= 0)
        close(server->next_fd);
    loop_cancel(server->loop, &server->clean);
    gdb_session_free(server->session);
    free(server);
}
