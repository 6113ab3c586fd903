/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/guest_disk.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>

#include "memory/layout_x86.h"

/* Set a register pair that holds a 64-bit address. */
static void set_address(struct guest_disk *disk, uint32_t low_reg, uint64_t gpa)
{
    guest_op(disk->guest, GUEST_ST32, disk->regs + low_reg, (uint32_t)gpa, 0);
    guest_op(disk->guest, GUEST_ST32, disk->regs + low_reg + 4, gpa >> 32, 0);
}

static void set(struct guest_disk *disk, uint32_t reg, uint32_t value)
{
    guest_op(disk->guest, GUEST_ST32, disk->regs + reg, value, 0);
}

void guest_disk_init(struct guest_disk *disk, struct guest *guest, unsigned index)
{
    guest_disk_init_with(disk, guest, index, 0, GUEST_DISK_QUEUE_SIZE);
}

void guest_disk_init_with(struct guest_disk *disk, struct guest *guest, unsigned index,
                          uint32_t features, uint16_t queue_size)
{
    uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    *disk = (struct guest_disk){
        .guest = guest,
        .regs = X86_VIRTIO_MMIO_BASE + (uint64_t)index * X86_VIRTIO_MMIO_STRIDE,
        .gsi = x86_virtio_gsi(index),
        .mem = GUEST_DATA + (uint64_t)index * GUEST_DISK_MEM,
        .queue_size = queue_size,
    };
    set(disk, VIRTIO_MMIO_STATUS, 0);
    set(disk, VIRTIO_MMIO_STATUS, status);
    set(disk, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set(disk, VIRTIO_MMIO_DRIVER_FEATURES, features);
    set(disk, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(disk, VIRTIO_MMIO_DRIVER_FEATURES, 1u << (VIRTIO_F_VERSION_1 - 32));
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    set(disk, VIRTIO_MMIO_STATUS, status);

    /* Flags and index: a kick from before the reset may make the device look at once. */
    guest_op(guest, GUEST_ST32, disk->mem + GUEST_DISK_AVAIL, 0, 0);
    guest_op(guest, GUEST_ST32, disk->mem + GUEST_DISK_USED, 0, 0);
    set(disk, VIRTIO_MMIO_QUEUE_SEL, 0);
    set(disk, VIRTIO_MMIO_QUEUE_NUM, queue_size);
    set_address(disk, VIRTIO_MMIO_QUEUE_DESC_LOW, disk->mem + GUEST_DISK_DESC);
    set_address(disk, VIRTIO_MMIO_QUEUE_AVAIL_LOW, disk->mem + GUEST_DISK_AVAIL);
    set_address(disk, VIRTIO_MMIO_QUEUE_USED_LOW, disk->mem + GUEST_DISK_USED);
    set(disk, VIRTIO_MMIO_QUEUE_READY, 1);
    set(disk, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void set_desc(struct guest_disk *disk, uint64_t i, uint64_t gpa, uint32_t len,
                     unsigned flags)
{
    uint64_t desc = disk->mem + GUEST_DISK_DESC + 16 * i;

    guest_op(disk->guest, GUEST_ST64, desc, gpa, 0);
    guest_op(disk->guest, GUEST_ST32, desc + 8, len, 0);
    guest_op(disk->guest, GUEST_ST16, desc + 12, flags, 0);
    guest_op(disk->guest, GUEST_ST16, desc + 14, i + 1, 0);
}

static void set_header(struct guest_disk *disk, uint32_t type, uint64_t sector)
{
    uint64_t header = disk->mem + GUEST_DISK_HEADER;

    guest_op(disk->guest, GUEST_ST32, header, type, 0);
    guest_op(disk->guest, GUEST_ST32, header + 4, 0, 0);
    guest_op(disk->guest, GUEST_ST64, header + 8, sector, 0);
}

void guest_disk_request(struct guest_disk *disk, uint32_t type, uint64_t sector, uint64_t buffer,
                        uint32_t len)
{
    bool device_writes = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    uint64_t slot =
        disk->mem + GUEST_DISK_AVAIL + 4 + 2 * (uint64_t)(disk->submitted % disk->queue_size);
    unsigned n = 0;

    set_header(disk, type, sector);
    guest_op(disk->guest, GUEST_ST8, disk->mem + GUEST_DISK_STATUS, 0xff, 0);

    set_desc(disk, n++, disk->mem + GUEST_DISK_HEADER, 16, VRING_DESC_F_NEXT);
    if (len > 0)
        set_desc(disk, n++, buffer, len,
                 VRING_DESC_F_NEXT | (device_writes ? VRING_DESC_F_WRITE : 0));
    set_desc(disk, n, disk->mem + GUEST_DISK_STATUS, 1, VRING_DESC_F_WRITE);

    disk->submitted++;
    guest_op(disk->guest, GUEST_ST16, slot, 0, 0); /* the chain begins at descriptor 0 */
    guest_op(disk->guest, GUEST_ST16, disk->mem + GUEST_DISK_AVAIL + 2, disk->submitted, 0);
    set(disk, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    guest_op(disk->guest, GUEST_WAIT16, disk->mem + GUEST_DISK_USED + 2, disk->submitted, 0);
}

void guest_disk_flood(struct guest_disk *disk, uint32_t type, uint64_t buffer, uint32_t len,
                      unsigned nbufs)
{
    unsigned flags = VRING_DESC_F_NEXT | (type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0);
    unsigned n = 0;

    set_header(disk, type, 0);
    set_desc(disk, n++, disk->mem + GUEST_DISK_HEADER, 16, VRING_DESC_F_NEXT);
    while (n <= nbufs)
        set_desc(disk, n++, buffer, len, flags);
    set_desc(disk, n, disk->mem + GUEST_DISK_STATUS, 1, VRING_DESC_F_WRITE);

    /* The chain is the same for all: entries of 0, which memory holds from the start. */
    disk->submitted = (uint16_t)(disk->submitted + disk->queue_size);
    guest_op(disk->guest, GUEST_ST16, disk->mem + GUEST_DISK_AVAIL + 2, disk->submitted, 0);
    set(disk, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

void guest_disk_put_status(struct guest_disk *disk)
{
    guest_op(disk->guest, GUEST_LD8, disk->mem + GUEST_DISK_STATUS, 0, 0);
    guest_op(disk->guest, GUEST_PUT_ACC, 1, 0, 0);
}

void guest_fill(struct guest *guest, uint64_t buffer, uint64_t value, uint64_t len)
{
    guest_op(guest, GUEST_ST64, buffer, value, 0);
    guest_op(guest, GUEST_LD64, buffer, 0, 0);
    guest_op(guest, GUEST_FILL_ACC, buffer, 0, len / 8);
}
