/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control sockets of a VM, and what clients may ask there: QMP.
 *
 * Lives as long as the process: a guest that is reset keeps its clients. The main thread only.
 */
#ifndef MINIVMM_CONTROL_CONTROL_H
#define MINIVMM_CONTROL_CONTROL_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "vmm/control/vm.h"

struct control_options {
    struct loop *loop;
    struct control_vm *vm; /* outlives the control */
    const char *qmp;       /* address of a socket; outlives the control; NULL: none */
    const char *name;      /* of the VM, for a socket in the folder of VMs with names; the same */
};

struct control;

/* Listen. 0, or a negative errno with *err filled: no socket was made then. */
int control_new(const struct control_options *options, struct control **ret_control,
                struct err *err) MUST_CHECK;

/* Why a guest ended. */
enum control_cause {
    CONTROL_GUEST_SHUTDOWN,
    CONTROL_GUEST_RESET,
    CONTROL_HOST_SIGNAL,
    CONTROL_HOST_UI, /* a key on the terminal */
    CONTROL_HOST_QUIT,
    CONTROL_HOST_RESET,
    CONTROL_HOST_ERROR,
};

/*
 * Tell clients what happened, and answer those who wait for that: the guest has ended, and is
 * started again (reset) or not (shutdown); it has stopped, and what is asked for now is about the
 * next one; its power button was pressed; it is paused; it goes on, or what was to be a pause is
 * none. NULL is fine.
 */
void control_tell_shutdown(struct control *control, enum control_cause cause);
void control_tell_reset(struct control *control, enum control_cause cause);
void control_tell_stopped(struct control *control);
void control_tell_powerdown(struct control *control);
void control_tell_paused(struct control *control);
void control_tell_resumed(struct control *control, bool was_paused);

/* A request of the disk that clients call `disk` failed on the host; `stops`: the VM is paused. */
struct control_disk_failure {
    const char *disk;
    bool read; /* or else a write, flush, discard */
    bool stops;
    int error; /* -errno */
};
void control_tell_disk_failed(struct control *control, const struct control_disk_failure *failure);

/* The guest's memory is another one, by its balloon: so many bytes. */
void control_tell_balloon(struct control *control, uint64_t memory);

/* The guest's kernel panicked; `crash_loaded`: another one is about to look into that. */
void control_tell_panicked(struct control *control, bool crash_loaded);

/*
 * Do nothing more for clients: the VM ends, and what they ask about goes away. Requests under way
 * are answered, those that come later are not. Events go on. More than once is fine, and NULL.
 */
void control_stop(struct control *control);

/* Tell clients nothing more, and remove the sockets. NULL is fine. */
void control_free(struct control *control);

#endif
