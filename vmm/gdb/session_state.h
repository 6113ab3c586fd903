/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of a session, for the files that deal with its packets: session.c, session_data.c and
 * monitor.c.
 */
#ifndef MINIVMM_GDB_SESSION_STATE_H
#define MINIVMM_GDB_SESSION_STATE_H

#include <stdbool.h>

#include "vmm/gdb/breakpoints.h"
#include "vmm/gdb/packet.h"
#include "vmm/gdb/session.h"

/* What a packet holds in hexadecimal. */
#define GDB_MEMORY_MAX (GDB_PACKET_MAX / 2)

enum gdb_session_state {
    GDB_STARTING, /* gdb has connected, the machine is to stop */
    GDB_STOPPED,
    GDB_RUNNING,
    GDB_LEAVING, /* gdb has gone, the machine is to stop once more */
    GDB_OVER,
};

struct gdb_session {
    struct gdb_target *target;
    struct gdb_session_user *user;
    enum gdb_session_state state;
    bool trusted; /* a packet came: it is a gdb, and what makes no sense is passed over */
    bool no_ack;
    bool was_reset;         /* since the stop that gdb knows of */
    bool tells_breakpoints; /* gdb understands `swbreak` and `hwbreak` in a stop */
    bool physical;          /* packets about memory mean physical addresses */
    bool masks_interrupts;  /* while stepping */
    unsigned cpu;           /* that packets about registers and memory mean */
    unsigned run_cpu;       /* that `c` and `s` mean */
    struct gdb_stop stop;   /* while stopped: the last reason */
    char *description;      /* of the registers; NULL: not asked for yet */
    struct gdb_breakpoints breakpoints;
    struct gdb_reader reader;
    struct gdb_reply reply;
    uint8_t memory[GDB_MEMORY_MAX]; /* on its way from or to the guest */
};

#endif
