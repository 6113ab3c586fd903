/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch_x86_show.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "memory/bits_x86.h"
#include "memory/layout_x86.h"
#include "vmm/arch.h"
#include "vmm/arch_x86_debug.h"

/* ---- registers ------------------------------------------------------------------------------- */

static void show_segment(const char *name, const struct kvm_segment *segment, FILE *out)
{
    fprintf(out, "%s=%04x %016llx %08x %s DPL=%u type=%x\n", name, segment->selector, segment->base,
            segment->limit, segment->present ? "P" : "-", segment->dpl, segment->type);
}

static void show_system(const struct kvm_sregs *sregs, FILE *out)
{
    show_segment("ES ", &sregs->es, out);
    show_segment("CS ", &sregs->cs, out);
    show_segment("SS ", &sregs->ss, out);
    show_segment("DS ", &sregs->ds, out);
    show_segment("FS ", &sregs->fs, out);
    show_segment("GS ", &sregs->gs, out);
    show_segment("LDT", &sregs->ldt, out);
    show_segment("TR ", &sregs->tr, out);
    fprintf(out, "GDT=     %016llx %08x\nIDT=     %016llx %08x\n", sregs->gdt.base,
            sregs->gdt.limit, sregs->idt.base, sregs->idt.limit);
    fprintf(out, "CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx CR8=%llx\nEFER=%016llx\n",
            sregs->cr0, sregs->cr2, sregs->cr3, sregs->cr4, sregs->cr8, sregs->efer);
}

static const char *state_of(int vcpu_fd)
{
    struct kvm_mp_state state;

    if (ioctl(vcpu_fd, KVM_GET_MP_STATE, &state) < 0)
        return "";
    switch (state.mp_state) {
    case KVM_MP_STATE_HALTED:
        return " HLT=1";
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        return " waits for its start-up";
    default:
        return " HLT=0";
    }
}

void arch_vcpu_show_registers(int vcpu_fd, unsigned id, FILE *out)
{
    struct kvm_sregs sregs;
    struct kvm_regs r;

    if (ioctl(vcpu_fd, KVM_GET_REGS, &r) < 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0) {
        fprintf(out, "KVM does not give them: %s\n", strerror(errno));
        return;
    }
    fprintf(out, "CPU#%u\n", id);
    fprintf(out, "RAX=%016llx RBX=%016llx RCX=%016llx RDX=%016llx\n", r.rax, r.rbx, r.rcx, r.rdx);
    fprintf(out, "RSI=%016llx RDI=%016llx RBP=%016llx RSP=%016llx\n", r.rsi, r.rdi, r.rbp, r.rsp);
    fprintf(out, "R8 =%016llx R9 =%016llx R10=%016llx R11=%016llx\n", r.r8, r.r9, r.r10, r.r11);
    fprintf(out, "R12=%016llx R13=%016llx R14=%016llx R15=%016llx\n", r.r12, r.r13, r.r14, r.r15);
    fprintf(out, "RIP=%016llx RFL=%08llx CPL=%u%s\n", r.rip, r.rflags, sregs.ss.dpl,
            state_of(vcpu_fd));
    show_system(&sregs, out);
}

/* ---- virtual memory -------------------------------------------------------------------------- */

int arch_vcpu_translate(int vcpu_fd, const struct guest_mem *mem, uint64_t va, uint64_t *ret_gpa)
{
    struct page_walk_x86 paging;
    uint64_t len;
    int r = arch_debug_get_paging(vcpu_fd, &paging);

    return r < 0 ? r : page_walk_x86(mem, &paging, va, ret_gpa, &len);
}

/* Enough for people. */
#define RANGES_MAX 2000u

/* The range that goes on: what is mapped with the same rights, page after page. */
struct mappings {
    FILE *out;
    struct page_x86 range;
    unsigned nranges;
};

static void end_range(struct mappings *mappings)
{
    const struct page_x86 *range = &mappings->range;

    if (range->len > 0)
        fprintf(mappings->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", range->va,
                range->va + range->len, range->len, range->user ? 'u' : '-',
                range->writable ? 'w' : '-');
    mappings->range.len = 0;
}

static bool add_page(void *opaque, const struct page_x86 *page)
{
    struct mappings *mappings = opaque;
    struct page_x86 *range = &mappings->range;

    if (range->len > 0 && range->va + range->len == page->va && range->user == page->user &&
        range->writable == page->writable) {
        range->len += page->len;
        return true;
    }
    end_range(mappings);
    if (mappings->nranges++ == RANGES_MAX)
        return false;
    *range = *page;
    return true;
}

void arch_x86_show_mappings(const struct page_walk_x86 *paging, const struct guest_mem *mem,
                            FILE *out)
{
    struct mappings mappings = {.out = out};
    bool all;

    if ((paging->cr0 & CR0_PG) == 0) {
        fprintf(out, "paging is off: addresses are physical\n");
        return;
    }
    all = page_walk_x86_each(mem, paging, add_page, &mappings);
    end_range(&mappings);
    if (!all)
        fprintf(out, "(cut off)\n");
}

void arch_vcpu_show_mappings(int vcpu_fd, const struct guest_mem *mem, FILE *out)
{
    struct page_walk_x86 paging;

    if (arch_debug_get_paging(vcpu_fd, &paging) == 0)
        arch_x86_show_mappings(&paging, mem, out);
    else
        fprintf(out, "KVM does not tell\n");
}

/* ---- the board ------------------------------------------------------------------------------- */

void arch_show_interrupts(const struct kvm_vm *vm,
                          const char *(*name_of)(void *opaque, unsigned gsi), void *opaque,
                          FILE *out)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

    if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0) {
        fprintf(out, "KVM does not tell them: %s\n", strerror(errno));
        return;
    }
    for (unsigned i = 0; i < X86_NIRQ_PINS; i++) {
        const char *name = name_of(opaque, i);
        bool masked = chip.chip.ioapic.redirtbl[i].fields.mask;

        if (masked && !name)
            continue;
        fprintf(out, "IRQ %2u: %s", i, name ? name : "nobody's");
        if (masked)
            fprintf(out, ": masked\n");
        else
            fprintf(out, ": vector %#x, %s, to APIC %u\n",
                    chip.chip.ioapic.redirtbl[i].fields.vector,
                    chip.chip.ioapic.redirtbl[i].fields.trig_mode ? "level" : "edge",
                    chip.chip.ioapic.redirtbl[i].fields.dest_id);
    }
}

void arch_show_own_memory(FILE *out)
{
    fprintf(out, "  %016x-%016x (i/o): I/O APIC\n  %016x-%016x (i/o): local APICs\n", X86_IOAPIC,
            X86_IOAPIC + 0xfffu, X86_LAPIC, X86_LAPIC + 0xfffu);
}
