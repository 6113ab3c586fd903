/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch_x86_debug.h"

#include <asm/kvm.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "memory/bits_x86.h"

#define VECTOR_DB 1u
#define VECTOR_BP 3u

#define DR6_STEP (1u << 14)
#define DR6_REGISTERS 0xfu

/* DR7 (Intel SDM 3B, 17.2.4). */
#define DR7_FIXED 0x700ull /* exact, and the bit that is always set */
#define DR7_GLOBAL(i) (2ull << 2 * (i))
#define DR7_TYPE(i, type) ((uint64_t)(type) << (16 + 4 * (i)))
#define DR7_LEN(i, code) ((uint64_t)(code) << (18 + 4 * (i)))
#define DR7_TYPE_EXECUTE 0u
#define DR7_TYPE_WRITE 1u
#define DR7_TYPE_ACCESS 3u

#define MSR_SYSENTER_EIP 0x176u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* The XSAVE area in its standard form (Intel SDM 1, 13.4). */
#define XSAVE_FCW 0u
#define XSAVE_FSW 2u
#define XSAVE_FTW 4u
#define XSAVE_FOP 6u
#define XSAVE_FIP 8u
#define XSAVE_FDP 16u
#define XSAVE_MXCSR 24u
#define XSAVE_ST 32u
#define XSAVE_XMM 160u
#define XSAVE_SLOT ((size_t)16)
#define XSAVE_XSTATE_BV 512u
#define XSAVE_X87_AND_SSE 3u
#define XSAVE_AVX 4u
#define CPUID_XSAVE 0xdu
#define CPUID_XSAVE_AVX 2u

/* Values of a register's tag. */
#define TAG_VALID 0u
#define TAG_ZERO 1u
#define TAG_SPECIAL 2u
#define TAG_EMPTY 3u

static int call(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

/* ---- what KVM shall stop for ----------------------------------------------------------------- */

static uint64_t dr7_bits(unsigned index, enum gdb_breakpoint_type type, unsigned len)
{
    static const uint64_t len_codes[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    uint64_t access = DR7_TYPE_EXECUTE;

    if (type == GDB_WATCH_WRITE)
        access = DR7_TYPE_WRITE;
    else if (type == GDB_WATCH_ACCESS)
        access = DR7_TYPE_ACCESS;
    return DR7_GLOBAL(index) | DR7_TYPE(index, access) | DR7_LEN(index, len_codes[len]);
}

static int set_guest_debug(int vcpu_fd, const struct arch_debug_want *want, uint32_t inject)
{
    struct kvm_guest_debug debug = {.control = inject};

    if (want->software)
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    if (want->step)
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    if (want->step && want->masks_interrupts)
        debug.control |= KVM_GUESTDBG_BLOCKIRQ;
    if (want->nregisters > 0) {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        debug.arch.debugreg[7] = DR7_FIXED;
    }
    for (unsigned i = 0; i < want->nregisters; i++) {
        debug.arch.debugreg[i] = want->registers[i].va;
        debug.arch.debugreg[7] |= dr7_bits(i, want->types[i], want->registers[i].len);
    }
    return call(vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

int arch_debug_apply(int vcpu_fd, const struct arch_debug_want *want)
{
    return set_guest_debug(vcpu_fd, want, 0);
}

void arch_debug_exit(const struct kvm_run *run, struct arch_debug_exit *ret_exit)
{
    const struct kvm_debug_exit_arch *debug = &run->debug.arch;
    bool trap = debug->exception == VECTOR_DB;

    *ret_exit = (struct arch_debug_exit){
        .pc = debug->pc,
        .breakpoint = debug->exception == VECTOR_BP,
        .stepped = trap && (debug->dr6 & DR6_STEP) != 0,
        .registers = trap ? debug->dr6 & DR6_REGISTERS : 0,
        .dr6 = debug->dr6,
    };
}

int arch_debug_reinject(int vcpu_fd, const struct arch_debug_want *want,
                        const struct arch_debug_exit *exit)
{
    struct kvm_debugregs registers;
    int r;

    if (exit->breakpoint)
        return set_guest_debug(vcpu_fd, want, KVM_GUESTDBG_INJECT_BP);
    /* The handler finds the reason in DR6. */
    r = call(vcpu_fd, KVM_GET_DEBUGREGS, &registers);
    registers.dr6 = exit->dr6;
    if (r == 0)
        r = call(vcpu_fd, KVM_SET_DEBUGREGS, &registers);
    return r < 0 ? r : set_guest_debug(vcpu_fd, want, KVM_GUESTDBG_INJECT_DB);
}

int arch_debug_forget_exception(int vcpu_fd)
{
    struct kvm_vcpu_events events;
    int r = call(vcpu_fd, KVM_GET_VCPU_EVENTS, &events);

    if (r < 0)
        return r;
    events.exception.injected = 0;
    events.exception.pending = 0;
    return call(vcpu_fd, KVM_SET_VCPU_EVENTS, &events);
}

int arch_debug_linear_rip(int vcpu_fd, uint64_t *ret_rip)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    int r = call(vcpu_fd, KVM_GET_REGS, &regs);

    if (r == 0)
        r = call(vcpu_fd, KVM_GET_SREGS, &sregs);
    if (r == 0)
        *ret_rip = (sregs.efer & EFER_LMA) != 0 && sregs.cs.l
                       ? regs.rip
                       : (uint32_t)(sregs.cs.base + regs.rip);
    return r;
}

/* ---- tables ---------------------------------------------------------------------------------- */

int arch_debug_get_paging(int vcpu_fd, struct page_walk_x86 *ret_paging)
{
    struct kvm_sregs sregs;
    int r = call(vcpu_fd, KVM_GET_SREGS, &sregs);

    if (r == 0)
        *ret_paging = (struct page_walk_x86){
            .cr0 = sregs.cr0, .cr3 = sregs.cr3, .cr4 = sregs.cr4, .efer = sregs.efer};
    return r;
}

/* 0 for one that KVM does not know. */
static uint64_t get_msr(int vcpu_fd, uint32_t index)
{
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } msrs = {.list = {.nmsrs = 1}};

    msrs.list.entries[0] = (struct kvm_msr_entry){.index = index};
    return ioctl(vcpu_fd, KVM_GET_MSRS, &msrs) == 1 ? msrs.list.entries[0].data : 0;
}

static int set_msr(int vcpu_fd, uint32_t index, uint64_t value)
{
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } msrs = {.list = {.nmsrs = 1}};

    msrs.list.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
    return ioctl(vcpu_fd, KVM_SET_MSRS, &msrs) == 1 ? 0 : -EINVAL;
}

int arch_debug_get_tables(int vcpu_fd, struct step_tables *ret_tables)
{
    struct kvm_sregs sregs;
    int r = call(vcpu_fd, KVM_GET_SREGS, &sregs);

    if (r < 0)
        return r;
    *ret_tables = (struct step_tables){
        .mode = STEP_REAL,
        .idt_base = sregs.idt.base,
        .idt_limit = sregs.idt.limit,
        .syscalls = {get_msr(vcpu_fd, MSR_SYSENTER_EIP)},
    };
    if ((sregs.efer & EFER_LMA) != 0)
        ret_tables->mode = STEP_LONG;
    else if ((sregs.cr0 & CR0_PE) != 0)
        ret_tables->mode = STEP_PROTECTED;
    if ((sregs.efer & EFER_SCE) != 0) {
        ret_tables->syscalls[1] = get_msr(vcpu_fd, MSR_LSTAR);
        ret_tables->syscalls[2] = get_msr(vcpu_fd, MSR_CSTAR);
    }
    return 0;
}

const char *arch_debug_describe(int vcpu_fd)
{
    struct kvm_mp_state state;

    if (call(vcpu_fd, KVM_GET_MP_STATE, &state) < 0)
        return "unknown";
    switch (state.mp_state) {
    case KVM_MP_STATE_RUNNABLE:
        return "running";
    case KVM_MP_STATE_HALTED:
        return "halted";
    default:
        return "waits for start-up";
    }
}

/* ---- registers ------------------------------------------------------------------------------- */

/* All that KVM tells of a vCPU. */
struct state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xsave xsave;
};

/* Where the upper halves of the ymm registers are; 0: there are none. */
static unsigned avx_offset(void)
{
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid_count(CPUID_XSAVE, CPUID_XSAVE_AVX, &eax, &ebx, &ecx, &edx) ||
        eax < 16 * XSAVE_SLOT || ebx + 16 * XSAVE_SLOT > sizeof(struct kvm_xsave))
        return 0;
    return ebx;
}

bool arch_debug_has_avx(void)
{
    return avx_offset() != 0;
}

static int get_state(int vcpu_fd, struct state *state)
{
    int r = call(vcpu_fd, KVM_GET_REGS, &state->regs);

    if (r == 0)
        r = call(vcpu_fd, KVM_GET_SREGS, &state->sregs);
    return r < 0 ? r : call(vcpu_fd, KVM_GET_XSAVE, &state->xsave);
}

/* KVM's names in gdb's order. */
static void list_general(struct kvm_regs *regs, __u64 *list[GDB_NGPRS])
{
    __u64 *const all[GDB_NGPRS] = {
        &regs->rax, &regs->rbx, &regs->rcx, &regs->rdx, &regs->rsi, &regs->rdi,
        &regs->rbp, &regs->rsp, &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
        &regs->r12, &regs->r13, &regs->r14, &regs->r15,
    };

    memcpy(list, all, sizeof(all));
}

static void list_segments(struct kvm_sregs *sregs, struct kvm_segment *list[GDB_NSEGMENTS])
{
    struct kvm_segment *const all[GDB_NSEGMENTS] = {&sregs->cs, &sregs->ss, &sregs->ds,
                                                    &sregs->es, &sregs->fs, &sregs->gs};

    memcpy(list, all, sizeof(all));
}

/* FXSAVE keeps one bit for each physical register: is it in use? */
static uint32_t full_tags(const uint8_t *area)
{
    unsigned top = load_le16(area + XSAVE_FSW) >> 11 & 7;
    uint32_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = area + XSAVE_ST + XSAVE_SLOT * ((i - top) & 7);
        unsigned exponent = load_le16(st + 8) & 0x7fffu;
        uint64_t fraction = load_le64(st);
        unsigned tag = TAG_VALID;

        if ((area[XSAVE_FTW] & 1u << i) == 0)
            tag = TAG_EMPTY;
        else if (exponent == 0 && fraction == 0)
            tag = TAG_ZERO;
        else if (exponent == 0 || exponent == 0x7fff || fraction >> 63 == 0)
            tag = TAG_SPECIAL;
        tags |= tag << 2 * i;
    }
    return tags;
}

static uint8_t short_tags(uint32_t tags)
{
    uint8_t used = 0;

    for (unsigned i = 0; i < 8; i++)
        if ((tags >> 2 * i & 3) != TAG_EMPTY)
            used |= (uint8_t)(1u << i);
    return used;
}

static void get_x87(const uint8_t *area, struct gdb_registers *registers)
{
    uint64_t insn = load_le64(area + XSAVE_FIP), operand = load_le64(area + XSAVE_FDP);

    for (unsigned i = 0; i < 8; i++)
        memcpy(registers->st[i], area + XSAVE_ST + XSAVE_SLOT * i, sizeof(registers->st[i]));
    registers->x87 = (struct gdb_x87){
        .control = load_le16(area + XSAVE_FCW),
        .status = load_le16(area + XSAVE_FSW),
        .tag = full_tags(area),
        .insn_segment = insn >> 32 & 0xffff,
        .insn_offset = (uint32_t)insn,
        .operand_segment = operand >> 32 & 0xffff,
        .operand_offset = (uint32_t)operand,
        .opcode = load_le16(area + XSAVE_FOP) & 0x7ffu,
    };
}

/* The pointers stay as they are: gdb shows only half of them in 64-bit mode. */
static void set_x87(uint8_t *area, const struct gdb_registers *registers)
{
    for (unsigned i = 0; i < 8; i++)
        memcpy(area + XSAVE_ST + XSAVE_SLOT * i, registers->st[i], sizeof(registers->st[i]));
    store_le16(area + XSAVE_FCW, (uint16_t)registers->x87.control);
    store_le16(area + XSAVE_FSW, (uint16_t)registers->x87.status);
    store_le16(area + XSAVE_FOP, (uint16_t)registers->x87.opcode);
    area[XSAVE_FTW] = short_tags(registers->x87.tag);
}

/* A part of the state that is not in use reads as its initial value. */
static void get_vectors(const uint8_t *area, struct gdb_registers *registers)
{
    bool avx = avx_offset() != 0 && (area[XSAVE_XSTATE_BV] & XSAVE_AVX) != 0;

    for (unsigned i = 0; i < 16; i++) {
        memcpy(registers->xmm[i], area + XSAVE_XMM + XSAVE_SLOT * i, XSAVE_SLOT);
        if (avx)
            memcpy(registers->ymmh[i], area + avx_offset() + XSAVE_SLOT * i, XSAVE_SLOT);
    }
    registers->mxcsr = load_le32(area + XSAVE_MXCSR);
}

static void set_vectors(uint8_t *area, const struct gdb_registers *registers)
{
    static const struct gdb_registers zero;

    for (unsigned i = 0; i < 16; i++)
        memcpy(area + XSAVE_XMM + XSAVE_SLOT * i, registers->xmm[i], XSAVE_SLOT);
    store_le32(area + XSAVE_MXCSR, registers->mxcsr);
    area[XSAVE_XSTATE_BV] |= XSAVE_X87_AND_SSE;
    if (avx_offset() == 0 || ((area[XSAVE_XSTATE_BV] & XSAVE_AVX) == 0 &&
                              memcmp(registers->ymmh, zero.ymmh, sizeof(zero.ymmh)) == 0))
        return;
    for (unsigned i = 0; i < 16; i++)
        memcpy(area + avx_offset() + XSAVE_SLOT * i, registers->ymmh[i], XSAVE_SLOT);
    area[XSAVE_XSTATE_BV] |= XSAVE_AVX;
}

static void get_system(const struct kvm_sregs *sregs, struct gdb_registers *registers)
{
    registers->fs_base = sregs->fs.base;
    registers->gs_base = sregs->gs.base;
    registers->cr0 = sregs->cr0;
    registers->cr2 = sregs->cr2;
    registers->cr3 = sregs->cr3;
    registers->cr4 = sregs->cr4;
    registers->cr8 = sregs->cr8;
    registers->efer = sregs->efer;
}

static void set_system(struct kvm_sregs *sregs, const struct gdb_registers *registers)
{
    sregs->fs.base = registers->fs_base;
    sregs->gs.base = registers->gs_base;
    sregs->cr0 = registers->cr0;
    sregs->cr2 = registers->cr2;
    sregs->cr3 = registers->cr3;
    sregs->cr4 = registers->cr4;
    sregs->cr8 = registers->cr8;
    sregs->efer = registers->efer;
}

int arch_debug_get_registers(int vcpu_fd, struct gdb_registers *ret_registers)
{
    struct kvm_segment *segments[GDB_NSEGMENTS];
    __u64 *general[GDB_NGPRS];
    struct state state;
    const uint8_t *area;
    int r = get_state(vcpu_fd, &state);

    if (r < 0)
        return r;
    *ret_registers = (struct gdb_registers){
        .rip = state.regs.rip,
        .rflags = (uint32_t)state.regs.rflags,
        .orig_rax = UINT64_MAX,
        .k_gs_base = get_msr(vcpu_fd, MSR_KERNEL_GS_BASE),
    };
    list_general(&state.regs, general);
    for (unsigned i = 0; i < GDB_NGPRS; i++)
        ret_registers->gpr[i] = *general[i];
    list_segments(&state.sregs, segments);
    for (unsigned i = 0; i < GDB_NSEGMENTS; i++)
        ret_registers->segment[i] = segments[i]->selector;
    get_system(&state.sregs, ret_registers);
    area = (const uint8_t *)state.xsave.region;
    get_x87(area, ret_registers);
    get_vectors(area, ret_registers);
    return 0;
}

static int set_general(int vcpu_fd, const struct gdb_registers *registers)
{
    struct kvm_regs regs = {.rip = registers->rip, .rflags = registers->rflags};
    __u64 *general[GDB_NGPRS];

    list_general(&regs, general);
    for (unsigned i = 0; i < GDB_NGPRS; i++)
        *general[i] = registers->gpr[i];
    return call(vcpu_fd, KVM_SET_REGS, &regs);
}

static int set_segments_and_system(int vcpu_fd, const struct gdb_registers *registers)
{
    struct kvm_segment *segments[GDB_NSEGMENTS];
    struct kvm_sregs sregs;
    int r = call(vcpu_fd, KVM_GET_SREGS, &sregs);

    if (r < 0)
        return r;
    list_segments(&sregs, segments);
    for (unsigned i = 0; i < GDB_NSEGMENTS; i++)
        segments[i]->selector = (uint16_t)registers->segment[i];
    set_system(&sregs, registers);
    return call(vcpu_fd, KVM_SET_SREGS, &sregs);
}

static int set_fpu(int vcpu_fd, const struct gdb_registers *registers)
{
    struct kvm_xsave xsave;
    int r = call(vcpu_fd, KVM_GET_XSAVE, &xsave);

    if (r < 0)
        return r;
    set_x87((uint8_t *)xsave.region, registers);
    set_vectors((uint8_t *)xsave.region, registers);
    return call(vcpu_fd, KVM_SET_XSAVE, &xsave);
}

#define DIFFER(a, b, field) (memcmp(&(a)->field, &(b)->field, sizeof((a)->field)) != 0)

static bool general_differ(const struct gdb_registers *a, const struct gdb_registers *b)
{
    return DIFFER(a, b, gpr) || a->rip != b->rip || a->rflags != b->rflags;
}

static bool system_differ(const struct gdb_registers *a, const struct gdb_registers *b)
{
    return DIFFER(a, b, segment) || a->fs_base != b->fs_base || a->gs_base != b->gs_base ||
           a->cr0 != b->cr0 || a->cr2 != b->cr2 || a->cr3 != b->cr3 || a->cr4 != b->cr4 ||
           a->cr8 != b->cr8 || a->efer != b->efer;
}

static bool fpu_differs(const struct gdb_registers *a, const struct gdb_registers *b)
{
    return DIFFER(a, b, st) || DIFFER(a, b, x87) || DIFFER(a, b, xmm) || a->mxcsr != b->mxcsr ||
           DIFFER(a, b, ymmh);
}

/* Only what was changed is written: KVM does more with some of it than storing it. */
int arch_debug_set_registers(int vcpu_fd, const struct gdb_registers *registers)
{
    struct gdb_registers now;
    int r = arch_debug_get_registers(vcpu_fd, &now);

    if (r == 0 && system_differ(&now, registers))
        r = set_segments_and_system(vcpu_fd, registers);
    if (r == 0 && fpu_differs(&now, registers))
        r = set_fpu(vcpu_fd, registers);
    if (r == 0 && now.k_gs_base != registers->k_gs_base)
        r = set_msr(vcpu_fd, MSR_KERNEL_GS_BASE, registers->k_gs_base);
    if (r == 0 && general_differ(&now, registers))
        r = set_general(vcpu_fd, registers);
    return r;
}
