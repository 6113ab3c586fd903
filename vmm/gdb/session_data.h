/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of a session about registers, memory and breakpoints. Each function adds to the session's
 * reply; `text` is what follows the packet's letter.
 */
#ifndef MINIVMM_GDB_SESSION_DATA_H
#define MINIVMM_GDB_SESSION_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gdb_session;

void gdb_get_registers(struct gdb_session *session);
void gdb_set_registers(struct gdb_session *session, const char *text);
void gdb_get_register(struct gdb_session *session, const char *text);
void gdb_set_register(struct gdb_session *session, const char *text);
void gdb_read_memory(struct gdb_session *session, const char *text);
void gdb_write_memory(struct gdb_session *session, const char *text);
void gdb_write_memory_binary(struct gdb_session *session, const char *text, size_t len);
void gdb_breakpoint(struct gdb_session *session, bool on, const char *text);

/* Read up to `len` bytes of memory without breakpoints; returns how many there are. */
size_t gdb_read(struct gdb_session *session, bool physical, uint64_t address, void *buf,
                size_t len);

#endif
