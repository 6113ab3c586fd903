/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gdb that debugs the guest: its packets, and what they make the machine do.
 *
 * The machine is stopped when gdb connects, as gdb expects, and whenever a packet looks at it. Each
 * vCPU is a thread; numbers of threads begin at 1. When gdb leaves, in whatever way, its
 * breakpoints are removed and the guest goes on.
 *
 * Main thread only. What gdb sends is hostile input.
 */
#ifndef MINIVMM_GDB_SESSION_H
#define MINIVMM_GDB_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "vmm/gdb/target.h"

struct gdb_session;

struct gdb_session_user {
    /* Send to gdb. */
    void (*send)(struct gdb_session_user *user, const char *bytes, size_t len);
    /* Whether gdb may send: not before the machine has stopped for the first time. */
    void (*listen)(struct gdb_session_user *user, bool listen);
    /* Nothing more will happen: close the connection, and free the session later. */
    void (*over)(struct gdb_session_user *user);
};

/* gdb has connected. 0 or -ENOMEM. `user` and `target` outlive the session. */
int gdb_session_new(struct gdb_target *target, struct gdb_session_user *user,
                    struct gdb_session **ret_session) MUST_CHECK;

/* The target is not touched any more. NULL is fine. */
void gdb_session_free(struct gdb_session *session);

/* Has `over` been called? */
bool gdb_session_is_over(const struct gdb_session *session);

/* gdb sent something. */
void gdb_session_input(struct gdb_session *session, const char *bytes, size_t len);

/* gdb has gone. `over` follows when the guest has been brought into order. */
void gdb_session_hang_up(struct gdb_session *session);

/* ---- from the target ------------------------------------------------------------------------- */

/* All vCPUs stand still. */
void gdb_session_stopped(struct gdb_session *session, const struct gdb_stop *stop);

/* The guest was reset: a new one is about to run, as the old one did. */
void gdb_session_restarted(struct gdb_session *session);

/* The guest has ended, with this exit code of the process, and none follows. */
void gdb_session_exited(struct gdb_session *session, unsigned code);

#endif
