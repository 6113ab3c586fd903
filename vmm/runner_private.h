/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The struct of a process's life; private to runner*.c:
 *
 *   runner.c         guests, one after the other, and the exit code
 *   runner_parts.c   what outlives a guest: opened in the order in which it is most useful to fail
 *   runner_events.c  what happens while a guest runs: its end, signals, clients, disks that fail
 *
 * The main thread only, except where noted.
 */
#ifndef MINIVMM_RUNNER_PRIVATE_H
#define MINIVMM_RUNNER_PRIVATE_H

#include "base/loop.h"
#include "base/open_files.h"
#include "boot/boot.h"
#include "vmm/attached/attached.h"
#include "vmm/console/console.h"
#include "vmm/control/control.h"
#include "vmm/debug_server.h"
#include "vmm/disk.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/process/boot_trace.h"
#include "vmm/process/ending.h"
#include "vmm/process/restarts.h"
#include "vmm/remote.h"

struct runner {
    const struct config *config;
    struct loop *loop;
    struct ending *ending;
    struct kvm kvm;
    struct boot *boot;
    char *cmdline;
    struct open_files files;
    struct disk **disks;
    size_t ndisks;
    struct attachments attachments;
    struct console *serial;
    struct console *console; /* NULL: the guest has none */
    bool consoles_started;
    struct control *control; /* NULL: nobody wants one, or the first guest cannot start yet */
    struct debug_server *debug_server; /* NULL: as for control */
    struct machine_parts parts;
    struct boot_trace trace;

    struct remote remote;    /* with the machine, NULL between two guests, and its pause */
    bool asked_to_power_off; /* a guest that resets instead is not started again */
    struct loop_timer repeat_button;
    unsigned nrepeats;
    struct loop_timer retry_disk;
    struct restarts restarts;
    struct loop_timer restart;

    bool told_of_retries; /* of a disk that failed */
    bool warned;          /* of a KVM that stock kernels do not run on */
    bool killed;
    enum control_cause killed_by;
    bool ended;           /* the guest that ran last */
    bool told_reset;      /* clients wait for the next guest */
    bool reset_by_client; /* if so: it did not do that itself */
    enum machine_end how; /* unless killed: how it ended */
};

/* ---- runner_parts.c -------------------------------------------------------------------------- */

/* 0; a negative errno with *err filled; 1: the end was asked for meanwhile. */
int runner_open(struct runner *runner, struct err *err);

/* Close what was opened, however much. 0, or a negative errno with *err filled. */
int runner_close(struct runner *runner, struct err *err);

/* ---- runner_events.c ------------------------------------------------------------------------- */

/* See to it that what happens to guests comes here. */
void runner_watch_guests(struct runner *runner);

/* For the clients of control sockets. */
extern const struct vm_actions runner_client_actions;

/* For ending.h and console.h; `opaque` is the runner. */
void runner_asked(void *opaque, unsigned signo);
void runner_insisted(void *opaque);
void runner_quit_key(void *opaque);
bool runner_is_hurried(void *opaque);

#endif
