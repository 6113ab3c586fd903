/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/remote_show.h"

#include <inttypes.h>

#include "vmm/arch.h"
#include "vmm/board.h"
#include "vmm/vcpu.h"

/* ---- what a vCPU tells ----------------------------------------------------------------------- */

bool remote_translate(const struct machine *machine, unsigned cpu, uint64_t va, uint64_t *ret_gpa)
{
    return arch_vcpu_translate(vcpu_fd(machine_vcpu(machine, cpu)), machine_view(machine).mem, va,
                               ret_gpa) == 0;
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
    switch (topic) {
    case VM_TOPIC_REGISTERS:
        arch_vcpu_show_registers(vcpu_fd(machine_vcpu(machine, cpu)), cpu, out);
        break;
    case VM_TOPIC_MAPPINGS:
        arch_vcpu_show_mappings(vcpu_fd(machine_vcpu(machine, cpu)), machine_view(machine).mem,
                                out);
        break;
    case VM_TOPIC_MEMORY_TREE:
        show_memory_tree(machine, out);
        break;
    case VM_TOPIC_INTERRUPTS:
        arch_show_interrupts(machine_view(machine).vm, name_of_line, (void *)(uintptr_t)parts, out);
        break;
    }
}
