/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM as clients of its control sockets see it (vmm/control/vm.h): what they can find out. What
 * they can do to it is the runner's. The main thread only, except what vm.h says of CPUs.
 */
#ifndef MINIVMM_REMOTE_H
#define MINIVMM_REMOTE_H

#include "base/compiler.h"
#include "base/err.h"
#include "vmm/attached/balloon.h"
#include "vmm/attached/vsock.h"
#include "vmm/control/vm.h"
#include "vmm/machine.h"

struct remote {
    struct control_vm vm;
    const struct machine_parts *parts;
    char *serial_place;
    char *console_place; /* NULL: there is no console */
    struct cpu_questions cpu_questions;
    struct balloon *balloon; /* the runner's; NULL: none */
    struct vsock *vsock;     /* the same */
    struct nic **nics;       /* the runner's; vm.nnics of them */

    /* The runner keeps these. */
    struct machine *machine; /* NULL: no guest is there */
    bool ending;             /* it has ended, and is waited for: as if none were there */
    bool wants_pause;
    bool paused;
    bool prelaunch; /* it has not begun yet, which is why */
    bool by_client; /* a client asked for it, or --paused; else only a disk's failure is why */
    bool io_error;  /* a disk failed */
};

/* `parts` outlive it. 0, or a negative errno with *err filled. */
int remote_init(struct remote *remote, const struct machine_parts *parts,
                const struct vm_actions *actions, struct err *err) MUST_CHECK;

/* These are pseudo-terminals, which have names only when they were opened; NULL: it is none. */
void remote_set_ptys(struct remote *remote, const char *serial, const char *console);

/* What failed on disks is tried again, or gone with the guest. */
void remote_forget_io_error(struct remote *remote);

/*
 * Answer what is open: the main loop will not run any more. The last machine has stopped, and
 * clients' requests are not carried out any more. Harmless on one that is all zero.
 */
void remote_end_questions(struct remote *remote);

/* Harmless on one that is all zero. */
void remote_done(struct remote *remote);

#endif
