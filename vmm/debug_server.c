/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/debug_server.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/gdb/server.h"

struct debug_server {
    struct debug_server_options options;
    struct debug *debug;
    struct debug_user user;
    struct gdb_server *gdb;
};

static struct debug_server *server_of(struct debug_user *user)
{
    return container_of(user, struct debug_server, user);
}

static void on_stopped(struct debug_user *user, const struct gdb_stop *stop)
{
    gdb_server_stopped(server_of(user)->gdb, stop);
}

static void on_restarted(struct debug_user *user)
{
    gdb_server_restarted(server_of(user)->gdb);
}

static void on_kill(struct debug_user *user)
{
    const struct debug_server_options *options = &server_of(user)->options;

    options->kill(options->opaque);
}

static int start(struct debug_server *server, struct err *err)
{
    const struct debug_server_options *options = &server->options;
    int r = debug_new(options->kvm, options->loop, options->waits, &server->debug, err);

    if (r < 0)
        return r;
    debug_set_user(server->debug, &server->user);
    return gdb_server_new(options->loop, options->address, debug_target(server->debug),
                          &server->gdb, err);
}

int debug_server_new(const struct debug_server_options *options, struct debug_server **ret_server,
                     struct err *err)
{
    struct debug_server *server = calloc(1, sizeof(*server));
    int r;

    if (!server)
        return err_set(err, -ENOMEM, "--gdb: out of memory");
    server->options = *options;
    server->user =
        (struct debug_user){.stopped = on_stopped, .restarted = on_restarted, .kill = on_kill};
    r = start(server, err);
    if (r < 0) {
        debug_server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

struct debug *debug_server_debug(struct debug_server *server)
{
    return server ? server->debug : NULL;
}

enum debug_hold debug_server_hold(struct debug_server *server)
{
    return server ? debug_hold(server->debug) : DEBUG_RUNS;
}

void debug_server_freeze(struct debug_server *server, bool freeze)
{
    if (server)
        gdb_server_freeze(server->gdb, freeze);
}

void debug_server_exited(struct debug_server *server, unsigned code)
{
    if (server)
        gdb_server_exited(server->gdb, code);
}

void debug_server_free(struct debug_server *server)
{
    if (!server)
        return;
    gdb_server_free(server->gdb);
    debug_free(server->debug);
    free(server);
}
