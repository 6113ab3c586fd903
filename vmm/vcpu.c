/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/trace.h"
#include "vmm/arch.h"
#include "vmm/gate.h"
#include "vmm/kvm_stats.h"

/* Interrupts KVM_RUN; its handler does nothing. */
#define VCPU_SIGNAL SIGRTMIN

struct vcpu {
    const struct vcpu_env *env;
    unsigned id;
    int fd;
    int stats_fd;        /* negative: none */
    struct kvm_run *run; /* shared with the kernel */
    pthread_t thread;
    bool started;
    atomic_int thread_id;
    _Atomic uint64_t exits[VCPU_EXITS]; /* counted on the thread */
    struct gate_thread gate;
    struct vcpu_debugger *debugger;
    bool unfinished; /* the access of the last exit is completed by the next KVM_RUN */
};

/* Exit reasons that this program does not ask for and no x86 guest can cause by itself. */
static const char exit_names[][20] = {
    [KVM_EXIT_UNKNOWN] = "UNKNOWN",
    [KVM_EXIT_EXCEPTION] = "EXCEPTION",
    [KVM_EXIT_HYPERCALL] = "HYPERCALL",
    [KVM_EXIT_DEBUG] = "DEBUG",
    [KVM_EXIT_HLT] = "HLT",
    [KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
    [KVM_EXIT_SET_TPR] = "SET_TPR",
    [KVM_EXIT_TPR_ACCESS] = "TPR_ACCESS",
    [KVM_EXIT_NMI] = "NMI",
    [KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI",
    [KVM_EXIT_HYPERV] = "HYPERV",
    [KVM_EXIT_X86_RDMSR] = "X86_RDMSR",
    [KVM_EXIT_X86_WRMSR] = "X86_WRMSR",
    [KVM_EXIT_DIRTY_RING_FULL] = "DIRTY_RING_FULL",
    [KVM_EXIT_AP_RESET_HOLD] = "AP_RESET_HOLD",
    [KVM_EXIT_X86_BUS_LOCK] = "X86_BUS_LOCK",
    [KVM_EXIT_XEN] = "XEN",
    [KVM_EXIT_NOTIFY] = "NOTIFY",
};

static void set_immediate_exit(struct vcpu *vcpu, bool on)
{
    __atomic_store_n(&vcpu->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

/*
 * A thread that has passed the gate is on its way into KVM_RUN or inside: if immediate_exit is set
 * by the time it gets there, KVM_RUN returns at once; if not, the signal, which comes after it,
 * interrupts KVM_RUN.
 */
static void call_out(struct gate_thread *gate, bool on)
{
    struct vcpu *vcpu = container_of(gate, struct vcpu, gate);

    set_immediate_exit(vcpu, on);
    if (on)
        (void)pthread_kill(gate->id, VCPU_SIGNAL); /* a running thread: cannot fail */
}

int vcpu_new(const struct vcpu_env *env, unsigned id, struct vcpu **ret_vcpu, struct err *err)
{
    struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
    int r;

    if (!vcpu)
        return err_set(err, -ENOMEM, "vCPU %u: out of memory", id);
    vcpu->env = env;
    vcpu->id = id;
    vcpu->fd = ioctl(env->vm->fd, KVM_CREATE_VCPU, (unsigned long)id);
    if (vcpu->fd < 0) {
        r = err_set_errno(err, -errno, "vCPU %u: KVM_CREATE_VCPU", id);
        goto free_vcpu;
    }
    vcpu->run =
        mmap(NULL, env->vm->kvm->vcpu_map_len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        r = err_set_errno(err, -errno, "vCPU %u: cannot map its shared area", id);
        goto close_fd;
    }
    /* Now: KVM would make whoever does this later wait until the thread is outside the guest. */
    vcpu->stats_fd = kvm_stats_open(vcpu->fd);
    vcpu->gate.call = call_out;
    gate_add(env->gate, &vcpu->gate);
    *ret_vcpu = vcpu;
    return 0;

close_fd:
    close(vcpu->fd);
free_vcpu:
    free(vcpu);
    return r;
}

void vcpu_free(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    munmap(vcpu->run, vcpu->env->vm->kvm->vcpu_map_len);
    if (vcpu->stats_fd >= 0)
        close(vcpu->stats_fd);
    close(vcpu->fd);
    free(vcpu);
}

int vcpu_fd(const struct vcpu *vcpu)
{
    return vcpu->fd;
}

void vcpu_set_debugger(struct vcpu *vcpu, struct vcpu_debugger *debugger)
{
    vcpu->debugger = debugger;
}

struct gate_thread *vcpu_gate_thread(struct vcpu *vcpu)
{
    return &vcpu->gate;
}

/* ---- debugging ------------------------------------------------------------------------------- */

static void handle_debug(struct vcpu *vcpu)
{
    struct arch_debug_exit exit;

    arch_debug_exit(vcpu->run, &exit);
    vcpu->debugger->exited(vcpu->debugger, &exit);
}

/*
 * A KVM without hardware's help may not know int3 in a guest's kernel, and stop in front of it. If
 * it is the debugger's, that is all there is to do.
 */
static bool stopped_at_breakpoint(struct vcpu *vcpu)
{
    struct arch_debug_exit exit = {.breakpoint = true};

    if (!vcpu->debugger || arch_debug_linear_rip(vcpu->fd, &exit.pc) < 0 ||
        !vcpu->debugger->has_breakpoint(vcpu->debugger, exit.pc) ||
        arch_debug_forget_exception(vcpu->fd) < 0)
        return false;
    vcpu->debugger->exited(vcpu->debugger, &exit);
    return true;
}

static bool is_stepping(const struct vcpu *vcpu)
{
    return vcpu->debugger && vcpu->debugger->steps;
}

/*
 * KVM does not tell of the end of a step whose instruction made it leave for something else, as an
 * access to a device does, nor of one that an interrupt began and a signal ended.
 */
static void check_step(struct vcpu *vcpu)
{
    struct arch_debug_exit exit = {.stepped = true};

    if (arch_debug_linear_rip(vcpu->fd, &exit.pc) == 0 && exit.pc != vcpu->debugger->steps_from)
        vcpu->debugger->exited(vcpu->debugger, &exit);
}

/* ---- a guest that cannot go on --------------------------------------------------------------- */

/* Say what happened; always returns false, "do not enter the guest again". */
static bool PRINTF_LIKE(2, 3) fail(struct vcpu *vcpu, const char *fmt, ...)
{
    struct err err = {0};
    char text[ERR_MSG_MAX];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut off where too long */
    va_end(args);
    err_set(&err, -EIO, "vCPU %u: %s", vcpu->id, text);

    log_error("vCPU %u stopped; its registers:", vcpu->id);
    arch_vcpu_report(vcpu->fd, vcpu->env->mem);
    vcpu->env->failed(vcpu->env, &err);
    return false;
}

/* The bytes KVM was working on; not every kernel tells. */
static void format_failed_insn(const struct kvm_run *run, char *text, size_t size)
{
    const uint64_t words_needed = 3; /* flags, then 16 bytes of size and instruction */
    uint8_t len = run->emulation_failure.insn_size;
    size_t pos = 0;

    text[0] = '\0';
    if (run->emulation_failure.ndata < words_needed ||
        !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return;
    for (uint8_t i = 0; i < len && i < sizeof(run->emulation_failure.insn_bytes); i++)
        pos += (size_t)snprintf(text + pos, size - pos, "%s%02x", i == 0 ? ": " : " ",
                                run->emulation_failure.insn_bytes[i]);
}

/* Not inlined, as the next one: their frames would be part of that of each vCPU thread. */
static __attribute__((noinline)) bool handle_internal_error(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    char insn[64];

    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return fail(vcpu, "KVM gave up with internal error %u", run->internal.suberror);

    if (stopped_at_breakpoint(vcpu))
        return true;
    format_failed_insn(run, insn, sizeof(insn));
    if (!arch_has_virtualization())
        return fail(vcpu,
                    "this host's KVM cannot run this guest: the processor has no VT-x or SVM, and "
                    "the software KVM in its place does not emulate an instruction the guest "
                    "needs%s",
                    insn);
    return fail(vcpu,
                "the guest executed an instruction that KVM cannot emulate, or executed from where "
                "there is no memory%s",
                insn);
}

static __attribute__((noinline)) bool handle_unexpected(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    const char *name =
        run->exit_reason < ARRAY_SIZE(exit_names) ? exit_names[run->exit_reason] : "";

    if (run->exit_reason == KVM_EXIT_UNKNOWN)
        return fail(vcpu, "unexpected exit UNKNOWN (hardware reason %#" PRIx64 ")",
                    (uint64_t)run->hw.hardware_exit_reason);
    if (run->exit_reason == KVM_EXIT_X86_RDMSR || run->exit_reason == KVM_EXIT_X86_WRMSR)
        return fail(vcpu, "unexpected exit %s for MSR %#x", name, run->msr.index);
    return fail(vcpu, "unexpected exit %s (reason %u)",
                name[0] ? name : "of a kind newer than this VMM", run->exit_reason);
}

/* ---- exits ----------------------------------------------------------------------------------- */

/* Each handler returns whether to enter the guest again. */

static bool handle_io(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    /* A string instruction brings several items at once, one after the other at one port. */
    uint8_t *item = (uint8_t *)vcpu->run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, item += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(vcpu->env->pio, run->io.port, item, run->io.size);
        else
            bus_read(vcpu->env->pio, run->io.port, item, run->io.size);
    }
    return true;
}

static bool handle_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    if (run->mmio.is_write)
        bus_write(vcpu->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    else
        bus_read(vcpu->env->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    return true;
}

/* A fault while handling a double fault resets a PC; some kernels reboot that way on purpose. */
static bool handle_shutdown(struct vcpu *vcpu)
{
    static struct log_limit limit; /* it may start again and again */
    bool told =
        log_limited_at(&limit, LOG_WARN, "vCPU %u: triple fault: the guest is reset", vcpu->id);

    if (told && log_enabled(LOG_INFO))
        arch_vcpu_report(vcpu->fd, vcpu->env->mem);
    vcpu->env->power->request(vcpu->env->power, POWER_REQUEST_RESET);
    return false;
}

static bool handle_system_event(struct vcpu *vcpu)
{
    struct power_sink *power = vcpu->env->power;

    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        power->request(power, POWER_REQUEST_OFF);
        return false;
    case KVM_SYSTEM_EVENT_RESET:
        power->request(power, POWER_REQUEST_RESET);
        return false;
    default:
        return fail(vcpu, "unexpected system event %u", vcpu->run->system_event.type);
    }
}

static bool handle_exit(struct vcpu *vcpu)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        vcpu->unfinished = true;
        return handle_io(vcpu);
    case KVM_EXIT_MMIO:
        vcpu->unfinished = true;
        return handle_mmio(vcpu);
    case KVM_EXIT_INTR:
        return true;
    case KVM_EXIT_DEBUG:
        if (!vcpu->debugger)
            return handle_unexpected(vcpu);
        handle_debug(vcpu);
        return true;
    case KVM_EXIT_SHUTDOWN:
        return handle_shutdown(vcpu);
    case KVM_EXIT_SYSTEM_EVENT:
        return handle_system_event(vcpu);
    case KVM_EXIT_FAIL_ENTRY:
        return fail(vcpu, "the processor refused to enter the guest (hardware reason %#" PRIx64 ")",
                    (uint64_t)vcpu->run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        return handle_internal_error(vcpu);
    default:
        return handle_unexpected(vcpu);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Nobody else writes: no locked instruction is needed. */
static void count(struct vcpu *vcpu, enum vcpu_exit kind)
{
    uint64_t n = atomic_load_explicit(&vcpu->exits[kind], memory_order_relaxed);

    atomic_store_explicit(&vcpu->exits[kind], n + 1, memory_order_relaxed);
}

static enum vcpu_exit kind_of(const struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return run->io.direction == KVM_EXIT_IO_OUT ? VCPU_EXIT_PORT_WRITE : VCPU_EXIT_PORT_READ;
    case KVM_EXIT_MMIO:
        return run->mmio.is_write ? VCPU_EXIT_MMIO_WRITE : VCPU_EXIT_MMIO_READ;
    default:
        return VCPU_EXIT_OTHER;
    }
}

static bool run_guest(struct vcpu *vcpu)
{
    if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
        count(vcpu, kind_of(vcpu->run));
        return handle_exit(vcpu);
    }
    /* EAGAIN: a CPU that waits for its start-up was woken for something else. */
    if (errno == EINTR || errno == EAGAIN) {
        count(vcpu, VCPU_EXIT_CALLED);
        return true;
    }
    return fail(vcpu, "KVM_RUN failed: %s", strerror(errno));
}

/*
 * A step that made KVM leave in the midst of its instruction goes in again only to complete it.
 * When immediate_exit is cleared afterwards, whoever has set it for a reason of its own has set
 * `called` before, and that is looked at next.
 */
static bool run_once(struct vcpu *vcpu)
{
    bool only_completes = vcpu->unfinished && is_stepping(vcpu);
    bool goes_on;

    if (only_completes)
        set_immediate_exit(vcpu, true);
    vcpu->unfinished = false;
    goes_on = run_guest(vcpu);
    if (only_completes)
        set_immediate_exit(vcpu, false);
    if (goes_on && is_stepping(vcpu) && !vcpu->unfinished)
        check_step(vcpu);
    return goes_on;
}

/* Whoever started this process may have blocked it. Not inlined: the set is large. */
static __attribute__((noinline)) void unblock_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, VCPU_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void *vcpu_main(void *arg)
{
    struct vcpu *vcpu = arg;
    uint64_t begin_ns;

    unblock_signal();
    atomic_store_explicit(&vcpu->thread_id, gettid(), memory_order_relaxed);

    trace_mark("first KVM_RUN");
    begin_ns = trace_begin();
    /* Whoever looks at a vCPU that is held finds an instruction done or not begun. */
    gate_enter(&vcpu->gate);
    while ((vcpu->unfinished || gate_pass(&vcpu->gate)) && run_once(vcpu))
        ;
    gate_leave(&vcpu->gate);
    trace_span("run the guest", begin_ns);
    return NULL;
}

int vcpu_thread_id(const struct vcpu *vcpu)
{
    return atomic_load_explicit(&vcpu->thread_id, memory_order_relaxed);
}

int vcpu_stats_fd(const struct vcpu *vcpu)
{
    return vcpu->stats_fd;
}

uint64_t vcpu_exits(const struct vcpu *vcpu, enum vcpu_exit kind)
{
    return atomic_load_explicit(&vcpu->exits[kind], memory_order_relaxed);
}

static void on_vcpu_signal(int signo)
{
}

int vcpu_start(struct vcpu *vcpu, struct err *err)
{
    /* Without SA_RESTART: KVM_RUN has to return. */
    struct sigaction action = {.sa_handler = on_vcpu_signal};
    char name[THREAD_NAME_MAX + 1];
    int r;

    sigemptyset(&action.sa_mask);
    if (sigaction(VCPU_SIGNAL, &action, NULL) < 0)
        return err_set_errno(err, -errno, "vCPU %u: cannot handle its signal", vcpu->id);

    snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
    gate_expect(&vcpu->gate);
    r = thread_start(&vcpu->thread, name, vcpu_main, vcpu);
    if (r < 0) {
        gate_leave(&vcpu->gate);
        return err_set_errno(err, r, "vCPU %u: cannot start its thread", vcpu->id);
    }
    vcpu->started = true;
    return 0;
}

void vcpu_request_stop(struct vcpu *vcpu)
{
    gate_end(&vcpu->gate);
}

void vcpu_wait(struct vcpu *vcpu)
{
    if (!vcpu->started)
        return;
    pthread_join(vcpu->thread, NULL);
    vcpu->started = false;
}
