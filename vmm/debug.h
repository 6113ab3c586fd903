/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine as a debugger has it: it stops all vCPUs, looks at them, and lets them run or step.
 *
 * Lives as long as the process; a machine is attached from before it starts until it has stopped.
 * Between two machines it remembers what the next one is to do. Main thread, except where noted.
 */
#ifndef MINIVMM_DEBUG_H
#define MINIVMM_DEBUG_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "memory/guest_mem.h"
#include "vmm/gate.h"
#include "vmm/gdb/target.h"
#include "vmm/kvm.h"
#include "vmm/vcpu.h"

struct debug;

/* Who debugs. */
struct debug_user {
    /* All vCPUs stand still. */
    void (*stopped)(struct debug_user *user, const struct gdb_stop *stop);
    /* A guest is about to run: the first one, or another one after a reset. */
    void (*restarted)(struct debug_user *user);
    /* End the VM. */
    void (*kill)(struct debug_user *user);
};

/*
 * `waits`: the first guest stands still from the beginning. 0, or a negative errno with *err
 * filled: this KVM cannot debug guests.
 */
int debug_new(const struct kvm *kvm, struct loop *loop, bool waits, struct debug **ret_debug,
              struct err *err) MUST_CHECK;
void debug_free(struct debug *debug);

void debug_set_user(struct debug *debug, struct debug_user *user);

/* What keeps the guest from running. */
enum debug_hold {
    DEBUG_RUNS,  /* nothing */
    DEBUG_WAITS, /* it has not begun, because nobody let it */
    DEBUG_HOLDS, /* whoever debugs */
};

enum debug_hold debug_hold(struct debug *debug);

struct gdb_target *debug_target(struct debug *debug);

/* ---- from the machine; a debug that is NULL is nobody ---------------------------------------- */

/* What of a machine is debugged. */
struct debug_machine {
    struct gate *gate;
    const struct guest_mem *mem;
    struct vcpu *const *vcpus;
    unsigned nvcpus;
    /* All vCPUs stand still, or are about to go on. */
    void (*holds)(struct debug_machine *machine, bool holds);
};

/* Its vCPUs are about to be started; it is valid until debug_detach. 0 or -ENOMEM. */
int debug_attach(struct debug *debug, struct debug_machine *machine) MUST_CHECK;

/* Its vCPUs are about to stop for good: nobody is told of why they stop any more. NULL is fine. */
void debug_end(struct debug *debug);

/* Its vCPUs have stopped for good. */
void debug_detach(struct debug *debug);

/* From gate->cleared: all vCPUs are outside. Any thread, with the gate's lock held. */
void debug_cleared(struct debug *debug);

#endif
