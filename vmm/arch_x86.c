/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/kvm.h>
#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "base/log.h"
#include "boot/longmode_x86.h"
#include "devices/virtio/virtio_mmio.h"
#include "memory/bits_x86.h"
#include "memory/layout_x86.h"
#include "memory/page_walk_x86.h"
#include "vmm/arch.h"
#include "vmm/arch_x86_cpuid.h"

#define MSR_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_FAST_STRINGS 1u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MTRR_ENABLED (1u << 11)
#define MTRR_WRITE_BACK 6u

/* Local APIC register page (Intel SDM 3A, table 11-1). */
#define APIC_LVT_LINT0 0x350u
#define APIC_LVT_LINT1 0x360u
#define APIC_LVT_MASKED (1u << 16)
#define APIC_DELIVERY_NMI (4u << 8)
#define APIC_DELIVERY_EXTINT (7u << 8)

#define FPU_CONTROL_INIT 0x37fu /* as FNINIT leaves it */
#define MXCSR_INIT 0x1f80u

/* Types of segments. */
#define SEGMENT_CODE 0xbu /* execute, read, accessed */
#define SEGMENT_DATA 0x3u /* read, write, accessed */
#define SEGMENT_BUSY_TSS 0xbu

#define INSN_BYTES 16u

_Static_assert(X86_VIRTIO_MMIO_STRIDE == VIRTIO_MMIO_LEN, "a device fills its slot");
_Static_assert(X86_VIRTIO_DEVICES_MAX <= BUS_RANGES_MAX, "and each has one on the bus");

struct arch_vm {
    const struct kvm_vm *vm;
    struct kvm_cpuid2 *host_cpuid;
    unsigned ncpus;
    bool tsc_deadline_timer;
};

static const struct kvm_cap required_caps[] = {
    KVM_CAP_ENTRY(KVM_CAP_SET_TSS_ADDR),
    KVM_CAP_ENTRY(KVM_CAP_SET_IDENTITY_MAP_ADDR),
    KVM_CAP_ENTRY(KVM_CAP_EXT_CPUID),
};
static const struct kvm_cap legacy_caps[] = {KVM_CAP_ENTRY(KVM_CAP_PIT2)};

/* ---- the machine ----------------------------------------------------------------------------- */

size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[ARCH_RAM_RANGES_MAX])
{
    ranges[0] = (struct mem_range){.gpa = 0, .len = min_u64(size, X86_LOW_RAM_END)};
    if (size <= X86_LOW_RAM_END)
        return 1;
    ranges[1] = (struct mem_range){.gpa = X86_HIGH_RAM_START, .len = size - X86_LOW_RAM_END};
    return 2;
}

bool arch_virtio_slot(unsigned index, struct boot_virtio_mmio *ret_slot)
{
    if (index >= X86_VIRTIO_DEVICES_MAX)
        return false;
    *ret_slot = (struct boot_virtio_mmio){
        .gpa = X86_VIRTIO_MMIO_BASE + index * X86_VIRTIO_MMIO_STRIDE,
        .len = X86_VIRTIO_MMIO_STRIDE,
        .gsi = x86_virtio_gsi(index),
    };
    return true;
}

bool arch_has_virtualization(void)
{
    const unsigned vmx = 1u << 5; /* leaf 1, ECX */
    const unsigned svm = 1u << 2; /* leaf 0x80000001, ECX */
    unsigned eax, ebx, ecx, edx;

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & vmx) != 0)
        return true;
    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & svm) != 0;
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static int check_caps(const struct kvm *kvm, bool legacy, struct err *err)
{
    int r = kvm_require_caps(kvm, required_caps, ARRAY_SIZE(required_caps), err);

    if (r == 0 && legacy)
        r = kvm_require_caps(kvm, legacy_caps, ARRAY_SIZE(legacy_caps), err);
    return r;
}

/*
 * A machine with hardware-reduced ACPI has no PIT, and Linux does not look for one. A kernel
 * without ACPI takes the machine for an old PC and may calibrate its clocks with it.
 */
static int create_pit(const struct kvm_vm *vm, struct err *err)
{
    /* The speaker bit of port 0x61 belongs to the PIT's third channel. */
    struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

    if (ioctl(vm->fd, KVM_CREATE_PIT2, &config) < 0)
        return err_set_errno(err, -errno, "KVM_CREATE_PIT2");
    return 0;
}

static int create_chips(const struct kvm_vm *vm, bool legacy, struct err *err)
{
    uint64_t identity_map = X86_IDENTITY_MAP;

    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
        return err_set_errno(err, -errno, "KVM_SET_IDENTITY_MAP_ADDR");
    if (ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)X86_TSS) < 0)
        return err_set_errno(err, -errno, "KVM_SET_TSS_ADDR");
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
        return err_set_errno(err, -errno, "KVM_CREATE_IRQCHIP");
    return legacy ? create_pit(vm, err) : 0;
}

static int get_host_cpuid(const struct kvm *kvm, struct kvm_cpuid2 **ret_cpuid, struct err *err)
{
    struct kvm_cpuid2 *cpuid = cpuid_new();

    if (!cpuid)
        return err_set(err, -ENOMEM, "out of memory");
    cpuid->nent = CPUID_ENTRIES_MAX;
    if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
        int r = err_set_errno(err, -errno, "KVM_GET_SUPPORTED_CPUID");

        free(cpuid);
        return r;
    }
    *ret_cpuid = cpuid;
    return 0;
}

int arch_vm_new(const struct kvm_vm *vm, bool legacy, unsigned ncpus, struct arch_vm **ret_arch,
                struct err *err)
{
    struct arch_vm *arch;
    int r;

    r = check_caps(vm->kvm, legacy, err);
    if (r == 0)
        r = create_chips(vm, legacy, err);
    if (r < 0)
        return r;

    arch = calloc(1, sizeof(*arch));
    if (!arch)
        return err_set(err, -ENOMEM, "out of memory");
    r = get_host_cpuid(vm->kvm, &arch->host_cpuid, err);
    if (r < 0) {
        free(arch);
        return r;
    }
    arch->vm = vm;
    arch->ncpus = ncpus;
    arch->tsc_deadline_timer = kvm_check_cap(vm->kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    *ret_arch = arch;
    return 0;
}

void arch_vm_free(struct arch_vm *arch)
{
    if (!arch)
        return;
    free(arch->host_cpuid);
    free(arch);
}

/* ---- a vCPU ---------------------------------------------------------------------------------- */

static int set_cpuid(const struct arch_vm *arch, int vcpu_fd, unsigned id, struct err *err)
{
    int tsc_khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
    struct cpuid_cpu cpu = {
        .apic_id = id,
        .ncpus = arch->ncpus,
        .tsc_khz = tsc_khz > 0 ? (uint32_t)tsc_khz : 0,
        .tsc_deadline_timer = arch->tsc_deadline_timer,
    };
    struct kvm_cpuid2 *cpuid = cpuid_new();
    int r;

    if (!cpuid)
        return err_set(err, -ENOMEM, "out of memory");
    memcpy(cpuid, arch->host_cpuid,
           sizeof(*cpuid) + arch->host_cpuid->nent * sizeof(cpuid->entries[0]));
    r = cpuid_describe_cpu(cpuid, &cpu);
    if (r < 0)
        err_set_errno(err, r, "vCPU %u: CPUID table", id);
    else if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0)
        r = err_set_errno(err, -errno, "vCPU %u: KVM_SET_CPUID2", id);
    free(cpuid);
    return r;
}

/*
 * Without fast strings Linux gives up `rep movs` for copying. With the MTRRs off it gives up PAT;
 * the default type makes RAM write-back, and the guest maps device registers uncached itself.
 */
static int set_msrs(int vcpu_fd, struct err *err)
{
    /* The entries follow the list's head, up to two here. */
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
    } msrs = {.list = {.nmsrs = 1}};
    struct kvm_msr_entry *entries = msrs.list.entries;
    int done;

    entries[0] = (struct kvm_msr_entry){.index = MSR_MISC_ENABLE};
    if (ioctl(vcpu_fd, KVM_GET_MSRS, &msrs) < 0)
        return err_set_errno(err, -errno, "KVM_GET_MSRS");

    msrs.list.nmsrs = 2;
    entries[0].data |= MISC_ENABLE_FAST_STRINGS;
    entries[1] =
        (struct kvm_msr_entry){.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED | MTRR_WRITE_BACK};
    done = ioctl(vcpu_fd, KVM_SET_MSRS, &msrs);
    if (done < 0)
        return err_set_errno(err, -errno, "KVM_SET_MSRS");
    if (done < (int)msrs.list.nmsrs)
        return err_set(err, -EINVAL, "KVM_SET_MSRS: KVM refuses %#" PRIx64 " for MSR %#x",
                       (uint64_t)entries[done].data, entries[done].index);
    return 0;
}

static int set_fpu(int vcpu_fd, struct err *err)
{
    struct kvm_fpu fpu = {.fcw = FPU_CONTROL_INIT, .mxcsr = MXCSR_INIT};

    if (ioctl(vcpu_fd, KVM_SET_FPU, &fpu) < 0)
        return err_set_errno(err, -errno, "KVM_SET_FPU");
    return 0;
}

/*
 * What firmware leaves behind: the 8259's interrupts come in at LINT0, NMIs at LINT1. Only on the
 * first CPU; the others' APICs are reset by the INIT that starts them.
 */
static int set_lapic(int vcpu_fd, struct err *err)
{
    struct kvm_lapic_state lapic;

    if (ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) < 0)
        return err_set_errno(err, -errno, "KVM_GET_LAPIC");
    store_le32(lapic.regs + APIC_LVT_LINT0, APIC_DELIVERY_EXTINT);
    store_le32(lapic.regs + APIC_LVT_LINT1, APIC_DELIVERY_NMI);
    if (ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic) < 0)
        return err_set_errno(err, -errno, "KVM_SET_LAPIC");
    return 0;
}

int arch_vcpu_init(const struct arch_vm *arch, int vcpu_fd, unsigned id, struct err *err)
{
    int r;

    r = set_cpuid(arch, vcpu_fd, id, err);
    if (r == 0)
        r = set_msrs(vcpu_fd, err);
    if (r == 0)
        r = set_fpu(vcpu_fd, err);
    if (r == 0 && id == 0)
        r = set_lapic(vcpu_fd, err);
    return r;
}

/* A flat segment: base 0, limit 4 GiB. */
static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){
        .selector = selector,
        .limit = 0xffffffff,
        .type = type,
        .present = 1,
        .s = 1,
        .db = 1,
        .g = 1,
    };
}

static void set_flat_segments(struct kvm_sregs *sregs)
{
    struct kvm_segment data = flat_segment(LONGMODE_DS, SEGMENT_DATA);

    sregs->cs = flat_segment(LONGMODE_CS, SEGMENT_CODE);
    sregs->ds = data;
    sregs->es = data;
    sregs->fs = data;
    sregs->gs = data;
    sregs->ss = data;
}

/*
 * Linux x86 boot protocol, "64-bit Boot Protocol": 64-bit mode, identity-mapped pages, interrupts
 * off.
 */
static void set_linux64(struct kvm_sregs *sregs, struct kvm_regs *regs,
                        const struct boot_plan *plan)
{
    set_flat_segments(sregs);
    sregs->cs.l = 1;
    sregs->cs.db = 0;
    sregs->cr3 = plan->cr3;
    sregs->cr4 = CR4_PAE;
    sregs->cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
    sregs->efer = EFER_LME | EFER_LMA;
    regs->rsi = plan->params_gpa;
}

/* PVH start of day (Xen's pvh.markdown): 32-bit protected mode, paging off, a 32-bit TSS. */
static void set_pvh(struct kvm_sregs *sregs, struct kvm_regs *regs, const struct boot_plan *plan)
{
    set_flat_segments(sregs);
    sregs->tr = (struct kvm_segment){.limit = 0x67, .type = SEGMENT_BUSY_TSS, .present = 1};
    sregs->cr4 = 0;
    sregs->cr0 = CR0_ET | CR0_PE;
    sregs->efer = 0;
    regs->rbx = plan->params_gpa;
}

int arch_vcpu_enter(int vcpu_fd, const struct boot_plan *plan, struct err *err)
{
    struct kvm_regs regs = {.rip = plan->rip, .rflags = RFLAGS_FIXED};
    struct kvm_sregs sregs;

    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return err_set_errno(err, -errno, "KVM_GET_SREGS");
    if (plan->entry == BOOT_ENTRY_LINUX64)
        set_linux64(&sregs, &regs, plan);
    else
        set_pvh(&sregs, &regs, plan);
    sregs.gdt.base = plan->gdt_gpa;
    sregs.gdt.limit = plan->gdt_limit;
    if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
        return err_set_errno(err, -errno, "KVM_SET_SREGS");
    if (ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
        return err_set_errno(err, -errno, "KVM_SET_REGS");
    return 0;
}

/* ---- what is said of a vCPU that stopped ----------------------------------------------------- */

static void report_instruction(const struct kvm_sregs *sregs, const struct guest_mem *mem,
                               uint64_t linear)
{
    const struct page_walk_x86 paging = {
        .cr0 = sregs->cr0, .cr3 = sregs->cr3, .cr4 = sregs->cr4, .efer = sregs->efer};
    char text[3 * INSN_BYTES + 1] = "";
    uint8_t bytes[INSN_BYTES];
    size_t len;

    /* Up to the end of the page: the next one may be elsewhere. */
    len = min_u64(sizeof(bytes), 0x1000 - (linear & 0xfff));
    if (page_walk_x86_read(mem, &paging, linear, bytes, len) < 0) {
        log_error("  instruction bytes at %#" PRIx64 ": not in RAM", linear);
        return;
    }
    for (size_t i = 0; i < len; i++)
        snprintf(text + 3 * i, sizeof(text) - 3 * i, " %02x", bytes[i]);
    log_error("  instruction bytes at %#" PRIx64 ":%s", linear, text);
}

void arch_vcpu_report(int vcpu_fd, const struct guest_mem *mem)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    if (ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0) {
        log_error("  registers: KVM does not give them");
        return;
    }
    log_error("  rip %016llx rflags %08llx cs %04x base %llx", regs.rip, regs.rflags,
              sregs.cs.selector, sregs.cs.base);
    log_error("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", regs.rax, regs.rbx, regs.rcx,
              regs.rdx);
    log_error("  rsi %016llx rdi %016llx rbp %016llx rsp %016llx", regs.rsi, regs.rdi, regs.rbp,
              regs.rsp);
    log_error("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", regs.r8, regs.r9, regs.r10,
              regs.r11);
    log_error("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", regs.r12, regs.r13, regs.r14,
              regs.r15);
    log_error("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %04llx", sregs.cr0, sregs.cr2,
              sregs.cr3, sregs.cr4, sregs.efer);
    log_error("  gdt %llx+%x idt %llx+%x tr %04x ss %04x ds %04x", sregs.gdt.base, sregs.gdt.limit,
              sregs.idt.base, sregs.idt.limit, sregs.tr.selector, sregs.ss.selector,
              sregs.ds.selector);
    /* Segment bases do not count in 64-bit mode; KVM reports 0 for CS there. */
    report_instruction(&sregs, mem, sregs.cs.base + regs.rip);
}
