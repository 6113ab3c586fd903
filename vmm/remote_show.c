/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/remote_show.h"

#include <inttypes.h>

#include "vmm/arch.h"
#include "vmm/board.h"
#include "vmm/vcpu.h"

/* ---- what a vCPU tells on its own thread ----------------------------------------------------- */

struct question {
    struct vcpu *vcpu;
    unsigned id;
    FILE *out;
    uint64_t va;
    uint64_t gpa;
    struct arch_paging paging;
    int result;
};

static void show_registers(void *opaque)
{
    const struct question *question = opaque;

    arch_vcpu_show_registers(vcpu_fd(question->vcpu), question->id, question->out);
}

static void translate(void *opaque)
{
    struct question *question = opaque;

    question->result = arch_vcpu_translate(vcpu_fd(question->vcpu), question->va, &question->gpa);
}

static void get_paging(void *opaque)
{
    struct question *question = opaque;

    question->result = arch_vcpu_get_paging(vcpu_fd(question->vcpu), &question->paging);
}

static bool ask(struct question *question, const struct machine *machine, unsigned cpu,
                void (*fn)(void *opaque))
{
    question->vcpu = machine_vcpu(machine, cpu);
    question->id = cpu;
    return vcpu_call(question->vcpu, fn, question);
}

bool remote_translate(const struct machine *machine, unsigned cpu, uint64_t va, uint64_t *ret_gpa)
{
    struct question question = {.va = va};

    if (!ask(&question, machine, cpu, translate) || question.result < 0)
        return false;
    *ret_gpa = question.gpa;
    return true;
}

/* ---- what lies where ------------------------------------------------------------------------- */

static void show_bus(const struct bus *bus, FILE *out)
{
    for (size_t i = 0; i < bus->nranges; i++)
        fprintf(out, "  %016" PRIx64 "-%016" PRIx64 " (i/o): %s\n", bus->ranges[i].base,
                bus->ranges[i].base + bus->ranges[i].len - 1, bus->ranges[i].name);
}

static void show_memory_tree(const struct machine *machine, FILE *out)
{
    const struct machine_view view = machine_view(machine);

    fprintf(out, "address-space: memory\n");
    for (size_t i = 0; i < view.mem->nregions; i++)
        fprintf(out, "  %016" PRIx64 "-%016" PRIx64 " (ram): RAM\n", view.mem->regions[i].gpa,
                view.mem->regions[i].gpa + view.mem->regions[i].len - 1);
    show_bus(view.mmio, out);
    arch_show_own_memory(out);
    fprintf(out, "\naddress-space: I/O\n");
    show_bus(view.pio, out);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* Whose a line is: a disk's, by its label; NULL: the board's, or nobody's. */
static const char *name_of_line(void *opaque, unsigned gsi)
{
    const struct machine_parts *parts = opaque;

    for (unsigned i = 0; i < parts->ndisks; i++) {
        struct boot_virtio_mmio slot;

        if (arch_virtio_slot(i, &slot) && slot.gsi == gsi)
            return disk_label(parts->disks[i]);
    }
    return board_line_name(gsi);
}

/* ---- all of it ------------------------------------------------------------------------------- */

void remote_show(const struct machine_parts *parts, const struct machine *machine,
                 enum vm_topic topic, unsigned cpu, FILE *out)
{
    const struct machine_view view = machine_view(machine);
    struct question question = {.out = out};
    bool told = true;

    switch (topic) {
    case VM_TOPIC_REGISTERS:
        told = ask(&question, machine, cpu, show_registers);
        break;
    case VM_TOPIC_MAPPINGS:
        told = ask(&question, machine, cpu, get_paging) && question.result == 0;
        if (told)
            arch_show_mappings(&question.paging, view.mem, out);
        break;
    case VM_TOPIC_MEMORY_TREE:
        show_memory_tree(machine, out);
        break;
    case VM_TOPIC_INTERRUPTS:
        arch_show_interrupts(view.vm, name_of_line, (void *)(uintptr_t)parts, out);
        break;
    }
    if (!told)
        fprintf(out, "the CPU does not run, or KVM does not tell\n");
}
