/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tiny virtio-blk driver for bare-metal guests: one queue, one request at a time, polled.
 */
#ifndef MINIVMM_TESTS_GUEST_DISK_H
#define MINIVMM_TESTS_GUEST_DISK_H

#include <stdint.h>

#include "tests/lib/guest/guest.h"

struct guest_disk {
    struct guest *guest;
    uint64_t regs; /* of the virtio-mmio device */
    unsigned gsi;
    uint64_t mem; /* queue and request, GUEST_DISK_MEM bytes */
    uint16_t queue_size;
    uint16_t submitted;
};

/* Memory of disk i is at GUEST_DATA + i * GUEST_DISK_MEM; buffers follow it. */
#define GUEST_DISK_MEM 0x10000u
#define GUEST_DISK_BUFFER 0x400000u

/* Offsets in that memory. */
#define GUEST_DISK_DESC 0x0000u
#define GUEST_DISK_AVAIL 0x4000u
#define GUEST_DISK_USED 0x5000u
#define GUEST_DISK_HEADER 0x8000u
#define GUEST_DISK_STATUS 0x8010u

#define GUEST_DISK_QUEUE_SIZE 8u

/* Bring up disk `index`: reset, features, queue 0, DRIVER_OK. */
void guest_disk_init(struct guest_disk *disk, struct guest *guest, unsigned index);

/* The same, with features (below bit 32) and a queue of another size, at most VIRTQ_SIZE_MAX. */
void guest_disk_init_with(struct guest_disk *disk, struct guest *guest, unsigned index,
                          uint32_t features, uint16_t queue_size);

/*
 * Fill the queue: as many requests as it holds, all of them of type `type` and alike, each with
 * `nbufs` times the same `len` bytes at `buffer`; and do not wait.
 */
void guest_disk_flood(struct guest_disk *disk, uint32_t type, uint64_t buffer, uint32_t len,
                      unsigned nbufs);

/*
 * Carry out a request of virtio type `type` (VIRTIO_BLK_T_*) and wait for it. `len` bytes at
 * `buffer` are written by the device for reads and get-id, read by it otherwise; 0 for a flush.
 */
void guest_disk_request(struct guest_disk *disk, uint32_t type, uint64_t sector, uint64_t buffer,
                        uint32_t len);

/* Print the status byte of the last request on the serial port, raw. */
void guest_disk_put_status(struct guest_disk *disk);

/* Fill `len` bytes at `buffer` with `value`; len is a multiple of 8. */
void guest_fill(struct guest *guest, uint64_t buffer, uint64_t value, uint64_t len);

#endif
