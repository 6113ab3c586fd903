/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual CPU and its thread.
 *
 * The thread runs the guest until it is told to stop or cannot go on. Accesses to registers go to
 * the buses on this thread; devices hand I/O to other threads, and block it only while the guest
 * resets a device or stops a queue of it: until the requests in flight are over.
 */
#ifndef MINIVMM_VCPU_H
#define MINIVMM_VCPU_H

#include "base/compiler.h"
#include "base/err.h"
#include "devices/bus.h"
#include "devices/power.h"
#include "memory/guest_mem.h"
#include "vmm/arch_x86_debug.h"
#include "vmm/gate.h"
#include "vmm/kvm.h"

/* What all vCPUs of a machine share; outlives them. */
struct vcpu_env {
    const struct kvm_vm *vm;
    const struct guest_mem *mem;
    const struct bus *pio;
    const struct bus *mmio;
    struct power_sink *power;
    struct gate *gate; /* through which their threads enter the guest */
    /* The guest cannot go on; the registers were logged. On the vCPU's thread, at most once. */
    void (*failed)(const struct vcpu_env *env, const struct err *err);
};

struct vcpu;

/*
 * A debugger of a vCPU. Its functions are called on the vCPU's thread, which goes on when they
 * return, unless somebody holds it.
 */
struct vcpu_debugger {
    /*
     * The vCPU is to execute one instruction, and where that is (linear). Written while the vCPU is
     * held, and by its own thread.
     */
    bool steps;
    uint64_t steps_from;
    /* KVM stopped the vCPU, or its step has ended without that. */
    void (*exited)(struct vcpu_debugger *debugger, const struct arch_debug_exit *exit);
    /* Is there an int3 of the debugger's at this linear address? */
    bool (*has_breakpoint)(struct vcpu_debugger *debugger, uint64_t address);
};

/* 0, or a negative errno with *err filled. */
int vcpu_new(const struct vcpu_env *env, unsigned id, struct vcpu **ret_vcpu,
             struct err *err) MUST_CHECK;

/* Must have been stopped, if it was started. */
void vcpu_free(struct vcpu *vcpu);

/* For arch_*.c: before the start, while the vCPU is held, or on its thread outside the guest. */
int vcpu_fd(const struct vcpu *vcpu);

/* Of its thread, as the kernel numbers them; 0: it has not begun. Any thread. */
int vcpu_thread_id(const struct vcpu *vcpu);

/* For kvm_stats_read; negative: this KVM does not tell. Any thread. */
int vcpu_stats_fd(const struct vcpu *vcpu);

/* Exits of the guest that brought it to this process: what it wanted. */
enum vcpu_exit {
    VCPU_EXIT_PORT_READ,
    VCPU_EXIT_PORT_WRITE,
    VCPU_EXIT_MMIO_READ,
    VCPU_EXIT_MMIO_WRITE,
    VCPU_EXIT_CALLED, /* somebody called it out */
    VCPU_EXIT_OTHER,
    VCPU_EXITS,
};

/* How many there were. Any thread. */
uint64_t vcpu_exits(const struct vcpu *vcpu, enum vcpu_exit kind);

/* Before the start, or while it is held. NULL: none. */
void vcpu_set_debugger(struct vcpu *vcpu, struct vcpu_debugger *debugger);

/* To hold it alone, and to give it work. */
struct gate_thread *vcpu_gate_thread(struct vcpu *vcpu);

/* Let it run on a thread of its own. 0, or a negative errno with *err filled. */
int vcpu_start(struct vcpu *vcpu, struct err *err) MUST_CHECK;

/*
 * Make the thread leave the guest for good, wherever it is; then wait for it. Two steps, so that
 * many CPUs stop at the same time. Harmless if it was not started.
 */
void vcpu_request_stop(struct vcpu *vcpu);
void vcpu_wait(struct vcpu *vcpu);

#endif
