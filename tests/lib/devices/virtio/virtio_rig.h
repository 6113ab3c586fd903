/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device with a loop that works on its queues, guest memory, and a driver: for tests of
 * devices that need no more than that. One rig per process.
 */
#ifndef MINIVMM_TESTS_VIRTIO_RIG_H
#define MINIVMM_TESTS_VIRTIO_RIG_H

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "base/bytes.h"
#include "base/loop_thread.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_mmio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/unit.h"

#define RIG_MEM_LEN (32 * MIB)
#define RIG_RING_GPA(queue) (0x10000u + 0x10000u * (queue))
#define RIG_DATA_GPA (8 * MIB)
#define RIG_TIMEOUT_MS 10000
#define RIG_UNTOUCHED 0xee /* fill for what the device must not write */

struct virtio_rig {
    struct loop_thread thread;
    struct loop *loop; /* the thread's */
    struct guest_mem *mem;
    struct irq irq;
    struct virtio_mmio *mmio;
    struct virtio_dev *dev; /* the transport's */
    struct driver_ring rings[VIRTIO_QUEUES_MAX];
};

extern struct virtio_rig rig;

/* Loop and memory; the test makes its device of rig.loop and rig.mem and hands it to rig_add. */
void rig_set_up(void);
void rig_set_up_with(uint64_t mem_len);
void rig_add(struct virtio_dev *dev);
void rig_tear_down(void);

/* Negotiate features, set up queues of `size` and start them. */
void rig_bring_up_with(uint64_t features, uint16_t size);

/* The same with all that the device offers and queues of 16. */
void rig_bring_up(void);

/* Wait until the loop has done what it was told before; its thread's data can be looked at then. */
void rig_settle(void);

/* Guest memory; is all of it RIG_UNTOUCHED? */
uint8_t *rig_guest(uint64_t gpa, size_t len);
bool rig_is_untouched(uint64_t gpa, size_t len);

/* Offer one buffer; show what was offered, and kick if the device wants it. */
uint16_t rig_add_buffer(unsigned queue, uint64_t gpa, uint32_t len, bool writable);
void rig_kick(unsigned queue);

/* The next used element, waiting for an interrupt as a guest does. */
struct vring_used_elem rig_wait_used(unsigned queue);

/* Is there none, also once the loop has done all that it has to do? */
bool rig_nothing_used(unsigned queue);

/* The device has asked for a reset. */
bool rig_needs_reset(void);

/* Pause the device and wait until it rests; let it go on. */
void rig_pause(void);
void rig_resume(void);

#endif
