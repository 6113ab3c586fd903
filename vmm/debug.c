/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/debug.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vmm/arch_x86_debug.h"
#include "vmm/arch_x86_debug_probe.h"
#include "vmm/gdb/breakpoints.h"

/* What the debugger knows of a vCPU. */
struct debug_cpu {
    struct vcpu_debugger debugger;
    struct debug *debug;
    struct vcpu *vcpu;
    struct arch_debug_want want; /* written while it is held */
    /* Why it stopped; by its thread, or while it is held. */
    bool stopped;
    enum gdb_stop_kind kind;
    struct gdb_hardware watched;
};

struct debug {
    struct gdb_target target;
    struct arch_debug_abilities abilities;
    struct loop *loop;
    struct debug_user *user;

    /* The machine; ncpus is 0 while there is none. */
    struct debug_machine *machine;
    struct debug_cpu *cpus;
    unsigned ncpus;
    bool stands_still; /* and was told so */
    bool waits;        /* the first machine has not begun */

    pthread_mutex_t lock; /* before that of the gate */
    bool holds;           /* lock: vCPUs are held, or will be from their start */
    bool tells;           /* the user waits to be told of a stop */
    bool ending;          /* the machine is about to go: of the next one */
    struct loop_work look;

    /* While the machine runs. */
    const struct gdb_breakpoints *breakpoints; /* NULL: nobody debugs */
    struct debug_cpu *stepper;                 /* NULL: none */
    struct debug_step step;
};

static struct debug *debug_of(struct gdb_target *target)
{
    return container_of(target, struct debug, target);
}

static int fd_of(const struct debug_cpu *cpu)
{
    return vcpu_fd(cpu->vcpu);
}

/* ---- vCPUs' threads -------------------------------------------------------------------------- */

/* Any thread. */
static void hold(struct debug *debug)
{
    pthread_mutex_lock(&debug->lock);
    if (!debug->holds && debug->ncpus > 0)
        gate_hold(debug->machine->gate);
    debug->holds = true;
    pthread_mutex_unlock(&debug->lock);
}

static bool holds(struct debug *debug)
{
    bool held;

    pthread_mutex_lock(&debug->lock);
    held = debug->holds;
    pthread_mutex_unlock(&debug->lock);
    return held;
}

static bool has_breakpoint(struct vcpu_debugger *debugger, uint64_t address)
{
    const struct debug_cpu *cpu = container_of(debugger, struct debug_cpu, debugger);
    const struct debug *debug = cpu->debug;

    return (debug->breakpoints && gdb_breakpoints_has(debug->breakpoints, address)) ||
           (debug->stepper == cpu && step_has(&debug->step, address));
}

/* The first of the debug registers that matched; NULL: none of ours. */
static const struct gdb_debug_register *matched(const struct debug_cpu *cpu,
                                                const struct arch_debug_exit *exit)
{
    for (unsigned i = 0; i < cpu->want.nregisters; i++)
        if ((exit->registers & 1u << i) != 0)
            return &cpu->want.registers[i];
    return NULL;
}

/* Is it a reason to stop, and which? False: the guest's own. */
static bool find_reason(struct debug_cpu *cpu, const struct arch_debug_exit *exit)
{
    const struct debug *debug = cpu->debug;
    const struct gdb_debug_register *reg = matched(cpu, exit);

    if (reg && debug->breakpoints) {
        cpu->watched = debug->breakpoints->hardware[reg->hardware];
        cpu->kind = cpu->watched.type == GDB_BREAK_HARDWARE ? GDB_STOP_HARDWARE : GDB_STOP_WATCHED;
        return true;
    }
    if (exit->breakpoint && debug->breakpoints &&
        gdb_breakpoints_has(debug->breakpoints, exit->pc)) {
        cpu->kind = GDB_STOP_BREAKPOINT;
        return true;
    }
    cpu->kind = GDB_STOP_STEPPED;
    return cpu->debugger.steps &&
           (exit->stepped || (exit->breakpoint && step_has(&debug->step, exit->pc)));
}

static void on_exit_for_debugger(struct vcpu_debugger *debugger, const struct arch_debug_exit *exit)
{
    struct debug_cpu *cpu = container_of(debugger, struct debug_cpu, debugger);

    if (!find_reason(cpu, exit)) {
        if (arch_debug_reinject(fd_of(cpu), &cpu->want, exit) < 0)
            log_warn("gdb: the guest does not get a debug exception of its own");
        return;
    }
    cpu->debugger.steps = false;
    cpu->stopped = true;
    hold(cpu->debug);
}

/* ---- stopping -------------------------------------------------------------------------------- */

void debug_cleared(struct debug *debug)
{
    if (debug)
        loop_post(debug->loop, &debug->look);
}

static void apply(struct debug_cpu *cpu, const struct arch_debug_want *want)
{
    cpu->want = *want;
    if (arch_debug_apply(fd_of(cpu), want) < 0)
        log_warn("gdb: KVM_SET_GUEST_DEBUG failed: a vCPU does not stop where it should");
}

/* Nothing of a step may be seen when it is over. */
static void finish_step(struct debug *debug)
{
    const struct arch_debug_want none = {.step = false};
    struct debug_cpu *cpu = debug->stepper;
    struct gdb_registers now;

    if (!cpu)
        return;
    debug->stepper = NULL;
    cpu->debugger.steps = false;
    apply(cpu, &none);
    if (arch_debug_get_registers(fd_of(cpu), &now) == 0 && step_tidy(&debug->step, &now) &&
        arch_debug_set_registers(fd_of(cpu), &now) < 0)
        log_warn("gdb: the trap flag of a step stays in a register");
    step_end(&debug->step);
}

/* A watchpoint that was removed meanwhile is no reason any more. */
static bool find_watch(const struct debug *debug, const struct gdb_hardware *watched,
                       unsigned *ret_index)
{
    const struct gdb_breakpoints *breakpoints = debug->breakpoints;

    for (unsigned i = 0; breakpoints && i < breakpoints->nhardware; i++) {
        const struct gdb_hardware *hardware = &breakpoints->hardware[i];

        if (hardware->type == watched->type && hardware->va == watched->va &&
            hardware->len == watched->len) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

/*
 * Take the reason of one vCPU. The others are at their breakpoints still, and come back to them
 * when they go on; but a watchpoint is behind its instruction, and is told of at the next stop.
 */
static struct gdb_stop take_reason(struct debug *debug)
{
    struct gdb_stop stop = {.kind = GDB_STOP_ASKED};
    bool found = false;

    for (unsigned i = 0; i < debug->ncpus; i++) {
        struct debug_cpu *cpu = &debug->cpus[i];
        unsigned watch = 0;

        if (!cpu->stopped || (found && cpu->kind == GDB_STOP_WATCHED))
            continue;
        cpu->stopped = false;
        if (found || (cpu->kind == GDB_STOP_WATCHED && !find_watch(debug, &cpu->watched, &watch)))
            continue;
        stop = (struct gdb_stop){.kind = cpu->kind, .cpu = i, .watch = watch};
        found = true;
    }
    return stop;
}

/* On the main loop, when all may be outside. */
static void look(struct loop_work *work)
{
    struct debug *debug = container_of(work, struct debug, look);
    struct gdb_stop stop;

    if (debug->ending || !debug->tells || !holds(debug) || debug->ncpus == 0 ||
        !gate_is_clear(debug->machine->gate))
        return;
    if (!debug->stands_still)
        debug->machine->holds(debug->machine, true);
    debug->stands_still = true;
    finish_step(debug);
    debug->tells = false;
    stop = take_reason(debug);
    if (debug->user)
        debug->user->stopped(debug->user, &stop);
}

static void target_stop(struct gdb_target *target)
{
    struct debug *debug = debug_of(target);

    debug->tells = true;
    hold(debug);
    loop_post(debug->loop, &debug->look);
}

/* ---- going on -------------------------------------------------------------------------------- */

static struct arch_debug_want want_of(const struct gdb_breakpoints *breakpoints)
{
    struct arch_debug_want want = {.software = breakpoints->nsoftware > 0};

    want.nregisters = gdb_debug_registers(breakpoints, want.registers);
    for (unsigned i = 0; i < want.nregisters; i++)
        want.types[i] = breakpoints->hardware[want.registers[i].hardware].type;
    return want;
}

static int prepare_step(struct debug *debug, struct debug_cpu *cpu)
{
    struct debug_step *step = &debug->step;
    int fd = fd_of(cpu);
    int r;

    step->mem = debug->machine->mem;
    r = arch_debug_get_registers(fd, &step->before);
    if (r == 0)
        r = arch_debug_get_paging(fd, &step->paging);
    if (r == 0)
        r = arch_debug_get_tables(fd, &step->tables);
    if (r == 0)
        r = arch_debug_linear_rip(fd, &step->linear_rip);
    return r;
}

/* One vCPU steps alone: the others would run into the traps of the step. */
static void begin_step(struct debug *debug, struct debug_cpu *cpu, const struct gdb_run *run)
{
    struct arch_debug_want want = want_of(run->breakpoints);

    if (prepare_step(debug, cpu) < 0) {
        log_warn("gdb: KVM does not give the registers: no step");
        return;
    }
    step_begin(&debug->step, debug->abilities.software);
    want.step = true;
    want.software = debug->abilities.software;
    want.masks_interrupts = run->masks_interrupts && debug->abilities.masks;
    cpu->debugger.steps_from = debug->step.linear_rip;
    cpu->debugger.steps = true;
    debug->stepper = cpu;
    apply(cpu, &want);
}

/* The vCPU that is to step; ncpus: none. */
static unsigned find_stepper(const struct debug *debug, const struct gdb_run *run)
{
    unsigned i = 0;

    while (i < debug->ncpus && run->actions[i] != GDB_STEP)
        i++;
    return i;
}

static void release(struct debug *debug)
{
    bool held;

    if (debug->stands_still)
        debug->machine->holds(debug->machine, false);
    debug->stands_still = false;
    debug->waits = false;
    pthread_mutex_lock(&debug->lock);
    held = debug->holds;
    debug->holds = false;
    pthread_mutex_unlock(&debug->lock);
    if (held && debug->ncpus > 0)
        gate_release(debug->machine->gate);
}

/* Has one of those that shall run something left to tell? */
static bool has_reason(const struct debug *debug, const struct gdb_run *run)
{
    unsigned index;

    for (unsigned i = 0; i < debug->ncpus; i++)
        if (debug->cpus[i].stopped && run->actions[i] != GDB_STAY &&
            find_watch(debug, &debug->cpus[i].watched, &index))
            return true;
    return false;
}

static void target_resume(struct gdb_target *target, const struct gdb_run *run)
{
    struct debug *debug = debug_of(target);
    unsigned stepper = find_stepper(debug, run);
    struct arch_debug_want want = want_of(run->breakpoints);

    debug->breakpoints = run->breakpoints;
    debug->tells = true;
    if (has_reason(debug, run)) {
        loop_post(debug->loop, &debug->look);
        return;
    }
    for (unsigned i = 0; i < debug->ncpus; i++) {
        struct debug_cpu *cpu = &debug->cpus[i];
        bool runs = run->actions[i] == GDB_CONTINUE && stepper == debug->ncpus;

        gate_keep(vcpu_gate_thread(cpu->vcpu), !runs && i != stepper);
        if (runs)
            apply(cpu, &want);
        if (i == stepper)
            begin_step(debug, cpu, run);
    }
    release(debug);
}

static void run_all(struct debug *debug)
{
    for (unsigned i = 0; i < debug->ncpus; i++)
        gate_keep(vcpu_gate_thread(debug->cpus[i].vcpu), false);
    release(debug);
}

static void target_detach(struct gdb_target *target)
{
    const struct arch_debug_want none = {.step = false};
    struct debug *debug = debug_of(target);

    debug->breakpoints = NULL;
    debug->tells = false;
    for (unsigned i = 0; i < debug->ncpus; i++) {
        debug->cpus[i].stopped = false;
        apply(&debug->cpus[i], &none);
    }
    run_all(debug);
}

static void target_withdraw(struct gdb_target *target)
{
    struct debug *debug = debug_of(target);

    if (debug->waits)
        debug->tells = false;
    else
        target_detach(target);
}

static void target_kill(struct gdb_target *target)
{
    struct debug *debug = debug_of(target);

    debug->tells = false;
    debug->breakpoints = NULL; /* no vCPU goes on any more */
    if (debug->user)
        debug->user->kill(debug->user);
}

/* ---- looking --------------------------------------------------------------------------------- */

static unsigned target_ncpus(struct gdb_target *target)
{
    return debug_of(target)->ncpus;
}

static bool target_has_avx(struct gdb_target *target)
{
    return arch_debug_has_avx();
}

static bool target_supports(struct gdb_target *target, enum gdb_breakpoint_type type)
{
    const struct arch_debug_abilities *abilities = &debug_of(target)->abilities;

    switch (type) {
    case GDB_BREAK_SOFTWARE:
        return abilities->software;
    case GDB_BREAK_HARDWARE:
        return abilities->hardware;
    case GDB_WATCH_WRITE:
    case GDB_WATCH_ACCESS:
        return abilities->watch;
    case GDB_WATCH_READ: /* x86 has no such thing */
        return false;
    }
    return false;
}

/* NULL while there is no machine. */
static const struct debug_cpu *cpu_at(struct gdb_target *target, unsigned index)
{
    const struct debug *debug = debug_of(target);

    return index < debug->ncpus ? &debug->cpus[index] : NULL;
}

static const char *target_describe(struct gdb_target *target, unsigned index)
{
    const struct debug_cpu *cpu = cpu_at(target, index);

    return cpu ? arch_debug_describe(fd_of(cpu)) : "off";
}

static int target_get_registers(struct gdb_target *target, unsigned index,
                                struct gdb_registers *registers)
{
    const struct debug_cpu *cpu = cpu_at(target, index);

    return cpu ? arch_debug_get_registers(fd_of(cpu), registers) : -ENODEV;
}

static int target_set_registers(struct gdb_target *target, unsigned index,
                                const struct gdb_registers *registers)
{
    const struct debug_cpu *cpu = cpu_at(target, index);

    return cpu ? arch_debug_set_registers(fd_of(cpu), registers) : -ENODEV;
}

static int target_translate(struct gdb_target *target, unsigned index, uint64_t va,
                            uint64_t *ret_gpa, uint64_t *ret_len)
{
    const struct debug_cpu *cpu = cpu_at(target, index);
    struct page_walk_x86 paging;

    if (!cpu || arch_debug_get_paging(fd_of(cpu), &paging) < 0)
        return -EFAULT;
    return page_walk_x86(debug_of(target)->machine->mem, &paging, va, ret_gpa, ret_len);
}

static int target_read(struct gdb_target *target, uint64_t gpa, void *buf, size_t len)
{
    const struct debug *debug = debug_of(target);

    return debug->ncpus > 0 ? guest_mem_read(debug->machine->mem, gpa, buf, len) : -EFAULT;
}

static int target_write(struct gdb_target *target, uint64_t gpa, const void *buf, size_t len)
{
    const struct debug *debug = debug_of(target);

    return debug->ncpus > 0 ? guest_mem_write(debug->machine->mem, gpa, buf, len) : -EFAULT;
}

static const struct gdb_target_ops target_ops = {
    .ncpus = target_ncpus,
    .has_avx = target_has_avx,
    .supports = target_supports,
    .describe = target_describe,
    .get_registers = target_get_registers,
    .set_registers = target_set_registers,
    .translate = target_translate,
    .read = target_read,
    .write = target_write,
    .stop = target_stop,
    .resume = target_resume,
    .detach = target_detach,
    .withdraw = target_withdraw,
    .kill = target_kill,
};

/* ---- life ------------------------------------------------------------------------------------ */

/* gdb only says that something could not be set. */
static void warn_of_missing(const struct arch_debug_abilities *abilities)
{
    if (!abilities->software)
        log_warn("gdb: this host's KVM does not stop at int3: there are no software breakpoints, "
                 "and steps do not see handlers of interrupts and exceptions");
    if (!abilities->hardware || !abilities->watch)
        log_info("gdb: this host's KVM has no hardware %s",
                 abilities->hardware ? "watchpoints" : "breakpoints and watchpoints");
}

int debug_new(const struct kvm *kvm, struct loop *loop, bool waits, struct debug **ret_debug,
              struct err *err)
{
    struct debug *debug = calloc(1, sizeof(*debug));
    int r;

    if (!debug)
        return err_set(err, -ENOMEM, "out of memory");
    r = arch_debug_probe(kvm, &debug->abilities, err);
    if (r < 0) {
        free(debug);
        return r;
    }
    warn_of_missing(&debug->abilities);
    debug->target.ops = &target_ops;
    debug->loop = loop;
    debug->holds = debug->waits = waits;
    debug->look.run = look;
    pthread_mutex_init(&debug->lock, NULL);
    *ret_debug = debug;
    return 0;
}

void debug_free(struct debug *debug)
{
    if (!debug)
        return;
    loop_cancel(debug->loop, &debug->look);
    pthread_mutex_destroy(&debug->lock);
    free(debug);
}

void debug_set_user(struct debug *debug, struct debug_user *user)
{
    debug->user = user;
}

enum debug_hold debug_hold(struct debug *debug)
{
    if (debug->waits)
        return DEBUG_WAITS;
    return holds(debug) ? DEBUG_HOLDS : DEBUG_RUNS;
}

struct gdb_target *debug_target(struct debug *debug)
{
    return &debug->target;
}

/*
 * A guest after a reset runs as the one before, which had the same breakpoints. Who has set some
 * and let no guest run yet, is told too.
 */
static void take_up(struct debug *debug)
{
    struct arch_debug_want want;

    if (debug->user)
        debug->user->restarted(debug->user);
    if (!debug->breakpoints)
        return;
    want = want_of(debug->breakpoints);
    for (unsigned i = 0; i < debug->ncpus; i++)
        apply(&debug->cpus[i], &want);
}

int debug_attach(struct debug *debug, struct debug_machine *machine)
{
    if (!debug)
        return 0;
    debug->cpus = calloc(machine->nvcpus, sizeof(*debug->cpus));
    if (!debug->cpus)
        return -ENOMEM;
    debug->machine = machine;
    debug->ncpus = machine->nvcpus;
    for (unsigned i = 0; i < debug->ncpus; i++) {
        struct debug_cpu *cpu = &debug->cpus[i];

        cpu->debug = debug;
        cpu->vcpu = machine->vcpus[i];
        cpu->debugger.exited = on_exit_for_debugger;
        cpu->debugger.has_breakpoint = has_breakpoint;
        vcpu_set_debugger(cpu->vcpu, &cpu->debugger);
    }
    take_up(debug);
    /* No vCPU runs yet, so nobody else holds or is told. */
    if (debug->holds) {
        gate_hold(machine->gate);
        loop_post(debug->loop, &debug->look);
    }
    return 0;
}

void debug_end(struct debug *debug)
{
    if (debug)
        debug->ending = true;
}

/* A guest that is reset in a step stands still at its next beginning. */
void debug_detach(struct debug *debug)
{
    if (debug)
        debug->ending = false;
    if (!debug || debug->ncpus == 0)
        return;
    debug->holds = debug->holds || debug->stepper;
    debug->stepper = NULL;
    free(debug->cpus);
    debug->cpus = NULL;
    debug->ncpus = 0;
    debug->stands_still = false;
}
