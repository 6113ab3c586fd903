/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose rings, descriptors and buffers are the input of a fuzz target: it brings a device
 * up on them, kicks, lets something happen, kicks again, and resets.
 *
 * Input: a byte for features, one for the size of the queues as a power of two, three for each
 * queue that place its rings in units of 256, and after them the contents of guest memory.
 */
#ifndef MINIVMM_TESTS_HOSTILE_RINGS_H
#define MINIVMM_TESTS_HOSTILE_RINGS_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/virtio/virtio.h"
#include "memory/guest_mem.h"

#define HOSTILE_RINGS_MEM_LEN (64 * KIB)

/* What all inputs have in common: a loop that runs on a thread of its own, and guest memory. */
struct hostile_rings {
    struct loop *loop;
    struct guest_mem *mem;
};

/* Made at the first call. */
const struct hostile_rings *hostile_rings(void);

/* Wait until the loop has done what it was told before. */
void hostile_rings_settle(void);

/* Run a device, made of that loop and that memory, and free it. `between` may be NULL. */
void hostile_rings_run(struct virtio_dev *dev, const uint8_t *data, size_t size,
                       void (*between)(void *opaque), void *opaque);

#endif
