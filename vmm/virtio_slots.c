/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio_slots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "devices/irq.h"
#include "devices/virtio/virtio_mmio.h"
#include "vmm/arch.h"

struct virtio_slot {
    struct virtio_dev *dev; /* owner: mmio */
    struct virtio_mmio *mmio;
    struct irq line;      /* the first device of a line has it */
    struct irq *irq;      /* the device's own, or that of an earlier slot */
    bool shows_registers; /* the guest reads them without this process */
};

int virtio_slots_plan(struct virtio_slots *slots, size_t n, struct err *err)
{
    slots->places = calloc(n + 1, sizeof(*slots->places)); /* never 0, which may give NULL */
    slots->slots = calloc(n + 1, sizeof(*slots->slots));
    if (!slots->places || !slots->slots)
        return err_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < n; i++)
        if (!arch_virtio_slot(i, &slots->places[i]))
            return err_set(err, -ENOSPC,
                           "%zu disks and other devices: this machine has room for %u", n, i);
    slots->nplaces = n;
    return 0;
}

static bool has_line(const struct virtio_slot *slot)
{
    return slot->irq == &slot->line;
}

/* The interrupt of a place: that of an earlier one, if they share a line. 0 or -errno. */
static int find_line(struct virtio_slots *slots, unsigned index)
{
    struct virtio_slot *slot = &slots->slots[index];
    uint32_t gsi = slots->places[index].gsi;
    int r;

    for (unsigned i = 0; i < index; i++) {
        if (slots->places[i].gsi == gsi) {
            slot->irq = slots->slots[i].irq;
            return 0;
        }
    }
    r = irq_init(&slot->line, gsi);
    if (r == 0)
        slot->irq = &slot->line;
    return r;
}

static void free_slot(struct virtio_slot *slot)
{
    virtio_mmio_free(slot->mmio);
    if (has_line(slot))
        irq_done(&slot->line);
}

/*
 * Let the guest read registers and acknowledge interrupts without this process. A KVM that cannot
 * do that brings every access here, which is as right and slower.
 */
static void show_registers(struct virtio_slots *slots, unsigned index, const struct kvm_vm *vm)
{
    struct virtio_slot *slot = &slots->slots[index];
    struct err err = {0};
    int r = kvm_vm_add_readable(vm, index, slots->places[index].gpa, virtio_mmio_page(slot->mmio),
                                VIRTIO_MMIO_LEN, &err);

    slot->shows_registers = r == 0;
    if (r < 0)
        log_info("%s: registers are read by exits: %s", slot->dev->ops->name, err.msg);
}

static int place(struct virtio_slots *slots, unsigned index, const struct kvm_vm *vm,
                 struct bus *mmio, struct err *err)
{
    const struct boot_virtio_mmio *where = &slots->places[index];
    const struct virtio_slot *slot = &slots->slots[index];
    const struct bus_range range = {
        .base = where->gpa,
        .len = where->len,
        .ops = &virtio_mmio_bus_ops,
        .dev = slot->mmio,
        .name = slot->dev->ops->name,
    };
    int r = bus_add(mmio, &range);

    if (r < 0)
        return err_set_errno(err, r, "%s: cannot place it at %#" PRIx64, slot->dev->ops->name,
                             where->gpa);
    show_registers(slots, index, vm);
    return 0;
}

int virtio_slots_add(struct virtio_slots *slots, struct virtio_dev *dev, const struct kvm_vm *vm,
                     struct bus *mmio, struct err *err)
{
    unsigned index = (unsigned)slots->nslots;
    struct virtio_slot *slot = &slots->slots[index];
    int r;

    slot->dev = dev;
    r = find_line(slots, index);
    if (r < 0) {
        err_set_errno(err, r, "%s: cannot make an eventfd", dev->ops->name);
        dev->ops->free(dev);
        return r;
    }
    r = virtio_mmio_new(dev, slot->irq, &slot->mmio);
    if (r < 0) {
        err_set_errno(err, r, "%s: cannot make its transport", dev->ops->name);
        dev->ops->free(dev);
        free_slot(slot);
        return r;
    }
    /* From here on the slot owns everything. */
    slots->nslots++;
    return place(slots, index, vm, mmio, err);
}

/* Its interrupt, a kick for each queue, and one for acknowledgements. */
static int connect_slot(struct virtio_slot *slot, uint64_t gpa, const struct kvm_vm *vm,
                        struct err *err)
{
    int r = has_line(slot) ? kvm_vm_add_irq(vm, slot->irq, err) : 0;

    if (r == 0 && slot->shows_registers)
        r = kvm_vm_add_kick(vm, gpa + VIRTIO_MMIO_INTERRUPT_ACK_OFF, VIRTIO_MMIO_ACK_USED,
                            virtio_mmio_ack_fd(slot->mmio), err);
    for (unsigned i = 0; r == 0 && i < slot->dev->nqueues; i++)
        r = kvm_vm_add_kick(vm, gpa + VIRTIO_MMIO_QUEUE_NOTIFY_OFF, i, slot->dev->kick_fds[i], err);
    return r;
}

int virtio_slots_connect(struct virtio_slots *slots, const struct kvm_vm *vm, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < slots->nslots; i++)
        r = connect_slot(&slots->slots[i], slots->places[i].gpa, vm, err);
    return r;
}

void virtio_slots_stop_devices(struct virtio_slots *slots)
{
    for (size_t i = slots->nslots; i-- > 0;)
        virtio_mmio_stop(slots->slots[i].mmio);
}

void virtio_slots_free_devices(struct virtio_slots *slots)
{
    while (slots->nslots > 0)
        free_slot(&slots->slots[--slots->nslots]);
}

void virtio_slots_done(struct virtio_slots *slots)
{
    free(slots->slots);
    free(slots->places);
    *slots = (struct virtio_slots){0};
}
