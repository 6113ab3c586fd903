/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of virtio for tests: a driver that builds rings in a struct guest_mem and works
 * the registers of a virtio-mmio device. It can behave, and it can break every rule.
 *
 * Failures of the test's own set-up abort the program.
 */
#ifndef MINIVMM_TESTS_VIRTIO_DRIVER_H
#define MINIVMM_TESTS_VIRTIO_DRIVER_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/virtio_mmio.h"
#include "devices/virtio/virtq.h"
#include "memory/guest_mem.h"

/* RAM of [0, len), zeroed. */
struct guest_mem *driver_mem_new(uint64_t len);

/* Host pointer of a guest range that must be RAM. */
void *driver_at(const struct guest_mem *mem, uint64_t gpa, size_t len);

/* ---- one ring -------------------------------------------------------------------------------- */

struct driver_ring {
    struct guest_mem *mem;
    uint16_t size;
    bool event_idx;
    uint64_t desc_gpa;
    uint64_t avail_gpa;
    uint64_t used_gpa;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;

    uint16_t avail_idx; /* where the next head goes; driver_show makes it visible */
    uint16_t shown_idx;
    uint16_t used_idx; /* the next used element to look at */
    uint16_t nfree;
    uint16_t free[VIRTQ_SIZE_MAX]; /* stack of free descriptors */
};

struct driver_buf {
    uint64_t gpa;
    uint32_t len;
    bool writable;
};

/* Bytes that a ring of `size` takes from `gpa` on. */
#define DRIVER_RING_BYTES(size) (16ul * (size) + 8ul + 2ul * (size) + 8ul + 8ul * (size))

/* Lay out a ring at `gpa` (16-byte aligned) and clear it. */
void driver_ring_init(struct driver_ring *ring, struct guest_mem *mem, uint64_t gpa, uint16_t size,
                      bool event_idx);

/* Write one descriptor as it is. */
void driver_set_desc(struct driver_ring *ring, uint16_t index, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next);

/* Put a head on the available ring, whatever it is. */
void driver_offer(struct driver_ring *ring, uint16_t head);

/* Chain buffers over free descriptors and offer them; returns the head. */
uint16_t driver_add(struct driver_ring *ring, const struct driver_buf *bufs, size_t nbufs);

/* The same by one indirect descriptor, with the table at `table_gpa`. */
uint16_t driver_add_indirect(struct driver_ring *ring, uint64_t table_gpa,
                             const struct driver_buf *bufs, size_t nbufs);

/* Make visible what was offered. True if the device wants a kick for it. */
bool driver_show(struct driver_ring *ring);

/* Take the next used element and free its descriptors. False: there is none. */
bool driver_take(struct driver_ring *ring, struct vring_used_elem *ret_elem);

/*
 * Ask for an interrupt at the next used element. True if one is there already: no interrupt may
 * come for it.
 */
bool driver_want_interrupt(struct driver_ring *ring);

/* ---- registers ------------------------------------------------------------------------------- */

uint32_t driver_read32(struct virtio_mmio *mmio, uint32_t off);
void driver_write32(struct virtio_mmio *mmio, uint32_t off, uint32_t value);

/* Reset and go up to FEATURES_OK with exactly `features`. False: the device refused them. */
bool driver_negotiate(struct virtio_mmio *mmio, uint64_t features);

/* What the device offers. */
uint64_t driver_features(struct virtio_mmio *mmio);

/* Set up queue `index`; false if the device does not accept it. */
bool driver_setup_queue(struct virtio_mmio *mmio, unsigned index, const struct driver_ring *ring);

void driver_set_driver_ok(struct virtio_mmio *mmio);
void driver_kick(struct virtio_mmio *mmio, unsigned queue);

/* Wait for an edge of the interrupt line. False after `timeout_ms`. */
bool driver_wait_irq(const struct irq *irq, int timeout_ms);

/*
 * What an interrupt handler does first: read InterruptStatus and acknowledge it. Returns what was
 * read.
 */
uint32_t driver_ack(struct virtio_mmio *mmio);

#endif
