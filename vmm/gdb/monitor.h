/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of `monitor`, for what gdb has none of its own.
 */
#ifndef MINIVMM_GDB_MONITOR_H
#define MINIVMM_GDB_MONITOR_H

struct gdb_session;

/* Adds what to say to the session's reply. */
void gdb_monitor(struct gdb_session *session, const char *command);

#endif
