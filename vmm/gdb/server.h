/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket that gdb connects to: `--gdb unix:PATH` or `--gdb tcp:127.0.0.1:PORT`.
 *
 * One gdb at a time; another one is told so and sent away. The server lives as long as the process:
 * a guest that is reset keeps its gdb. Main thread only.
 */
#ifndef MINIVMM_GDB_SERVER_H
#define MINIVMM_GDB_SERVER_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "vmm/gdb/target.h"

struct gdb_server;

/*
 * `target` and `address` outlive it. 0, or a negative errno with *err filled: no socket was made.
 */
int gdb_server_new(struct loop *loop, const char *address, struct gdb_target *target,
                   struct gdb_server **ret_server, struct err *err) MUST_CHECK;

/* Close the socket and the connection. NULL is fine. */
void gdb_server_free(struct gdb_server *server);

/* Leave what gdb sends unread, or read it again: there is no machine that it could be about. */
void gdb_server_freeze(struct gdb_server *server, bool freeze);

/* From the target; see session.h. */
void gdb_server_stopped(struct gdb_server *server, const struct gdb_stop *stop);
void gdb_server_restarted(struct gdb_server *server);
void gdb_server_exited(struct gdb_server *server, unsigned code);

#endif
