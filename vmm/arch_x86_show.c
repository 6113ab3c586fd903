/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "memory/layout_x86.h"
#include "vmm/arch.h"

#define CR0_PG (1ull << 31)
#define CR4_LA57 (1ull << 12)
#define EFER_LMA (1ull << 10)

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

int arch_vcpu_translate(int vcpu_fd, uint64_t va, uint64_t *ret_gpa)
{
    struct kvm_translation translation = {.linear_address = va};

    if (ioctl(vcpu_fd, KVM_TRANSLATE, &translation) < 0)
        return -errno;
    if (!translation.valid)
        return -EFAULT;
    *ret_gpa = translation.physical_address;
    return 0;
}

int arch_vcpu_get_paging(int vcpu_fd, struct arch_paging *ret_paging)
{
    struct kvm_sregs sregs;

    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    ret_paging->root = sregs.cr3;
    if (!(sregs.cr0 & CR0_PG))
        ret_paging->levels = 0;
    else if (!(sregs.efer & EFER_LMA))
        ret_paging->levels = 2;
    else
        ret_paging->levels = sregs.cr4 & CR4_LA57 ? 5 : 4;
    return 0;
}

#define ENTRIES 512u
#define ENTRY_PRESENT (1ull << 0)
#define ENTRY_WRITE (1ull << 1)
#define ENTRY_USER (1ull << 2)
#define ENTRY_LARGE (1ull << 7)
#define ENTRY_RIGHTS (ENTRY_WRITE | ENTRY_USER)
#define ENTRY_ADDRESS 0x000ffffffffff000ull
#define PAGE_SHIFT 12u

/* A guest makes tables as it likes, and each may be in all others. */
#define TABLES_MAX 8192u
#define RANGES_MAX 2000u

struct walk {
    const struct guest_mem *mem;
    FILE *out;
    unsigned nlevels;
    unsigned ntables;
    unsigned nranges;
    /* The range that goes on: what is mapped with the same rights, page after page. */
    uint64_t start;
    uint64_t len;
    uint64_t rights;
};

/* Addresses are sign-extended from the highest bit that the tables translate. */
static uint64_t canonical(const struct walk *walk, uint64_t va)
{
    unsigned unused = 64 - (PAGE_SHIFT + 9 * walk->nlevels);

    return (uint64_t)((int64_t)(va << unused) >> unused);
}

static void end_range(struct walk *walk)
{
    if (walk->len > 0 && walk->nranges++ < RANGES_MAX)
        fprintf(walk->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n",
                canonical(walk, walk->start), canonical(walk, walk->start) + walk->len, walk->len,
                walk->rights & ENTRY_USER ? 'u' : '-', walk->rights & ENTRY_WRITE ? 'w' : '-');
    walk->len = 0;
}

static void add_page(struct walk *walk, uint64_t va, uint64_t len, uint64_t rights)
{
    if (walk->len == 0 || walk->start + walk->len != va || walk->rights != rights) {
        end_range(walk);
        walk->start = va;
        walk->rights = rights;
    }
    walk->len += len;
}

static bool is_cut_off(const struct walk *walk)
{
    return walk->ntables >= TABLES_MAX || walk->nranges >= RANGES_MAX;
}

/* No deeper than `level`, which is at most 5. */
static void walk_table(struct walk *walk, uint64_t table, unsigned level, uint64_t va,
                       uint64_t rights)
{
    const uint64_t len = 1ull << (PAGE_SHIFT + 9 * (level - 1)); /* of what an entry maps */
    void *host;

    if (guest_mem_at(walk->mem, table & ENTRY_ADDRESS, ENTRIES * 8ul, &host) < 0 ||
        is_cut_off(walk))
        return;
    walk->ntables++;
    for (unsigned i = 0; i < ENTRIES; i++, va += len) {
        uint64_t entry;

        guest_mem_fetch(&entry, (const uint8_t *)host + (size_t)i * 8, sizeof(entry));
        entry = le64toh(entry);
        if (!(entry & ENTRY_PRESENT))
            continue;
        if (level == 1 || (level <= 3 && (entry & ENTRY_LARGE)))
            add_page(walk, va, len, rights & entry);
        else
            walk_table(walk, entry, level - 1, va, rights & entry);
    }
}

void arch_show_mappings(const struct arch_paging *paging, const struct guest_mem *mem, FILE *out)
{
    struct walk walk = {.mem = mem, .out = out, .nlevels = paging->levels};

    if (paging->levels == 0) {
        fprintf(out, "paging is off: addresses are physical\n");
        return;
    }
    if (paging->levels < 4) {
        fprintf(out, "only tables of the 64-bit mode are shown\n");
        return;
    }
    walk_table(&walk, paging->root, paging->levels, 0, ENTRY_RIGHTS);
    end_range(&walk);
    if (is_cut_off(&walk))
        fprintf(out, "(cut off)\n");
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
