/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices without their transport (virtio 1.2, 2 and 3).
 *
 * A device type is one file with one `const struct virtio_ops`. The transport (virtio_mmio.c)
 * owns status, features and queue addresses, and calls the device:
 *
 *   vCPU threads, one at a time (the transport's lock): all of virtio_ops, but
 *   the main thread: pause and resume
 *   the device's own I/O thread: whatever follows a kick of a queue
 *
 * A queue belongs to the transport until `queue_start` and to the device's I/O thread from then
 * until `queue_stop` returns. The I/O thread never takes the transport's lock, so that a vCPU may
 * hold the lock while it waits for the I/O thread.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "devices/virtio/virtq.h"
#include "memory/guest_mem.h"

#define VIRTIO_QUEUES_MAX 16u

/* A feature as a mask; `bit` is one of the kernel headers' VIRTIO_…_F_…. */
#define VIRTIO_FEATURE(bit) (1ull << (bit))

/* The reserved feature bits (virtio 1.2, 6) that every device offers. */
#define VIRTIO_FEATURES_COMMON                                                                     \
    (VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |            \
     VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) | VIRTIO_FEATURE(VIRTIO_F_RING_RESET))

struct virtio_dev;

/* Whoever pauses devices. */
struct virtio_pauser {
    /* The device rests, as asked for with `ticket`. On the device's I/O thread. */
    void (*paused)(struct virtio_pauser *pauser, uint64_t ticket);
};

struct virtio_ops {
    const char *name;
    uint32_t device_id;
    /* Feature bits of this device type that it offers; the transport adds the reserved ones. */
    uint64_t (*features)(struct virtio_dev *dev);
    /*
     * Device configuration space; the range may lie outside it: reads as zero, writes ignored. It
     * is read on the thread that calls notify_config, too.
     */
    void (*config_read)(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len);
    void (*config_write)(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len);
    /* The driver set FEATURES_OK after a reset: `dev->features` is agreed on. No queue runs. */
    void (*features_ok)(struct virtio_dev *dev);
    /* DRIVER_OK, once for each queue that is ready; later again after a reset of the queue. */
    int (*queue_start)(struct virtio_dev *dev, unsigned queue);
    /*
     * Reset, or the end of the VM. Waits until no request of the queue is in flight: neither the
     * rings nor a buffer is touched afterwards, and the guest may use that memory again.
     */
    void (*queue_stop)(struct virtio_dev *dev, unsigned queue);
    /*
     * Begin no more requests, end those in flight, and say so when the host has on its storage what
     * the driver was told is done. Returns at once. No vCPU runs. A device may be asked again, or
     * to go on, before it rests; the pauser outlives it.
     */
    void (*pause)(struct virtio_dev *dev, struct virtio_pauser *pauser, uint64_t ticket);
    /* Go on, with what was offered meanwhile too; maybe without a pause before. Returns at once. */
    void (*resume)(struct virtio_dev *dev);
    /* All queues are stopped. */
    void (*free)(struct virtio_dev *dev);
};

/* The part common to all device types, embedded in each. */
struct virtio_dev {
    const struct virtio_ops *ops;
    const struct guest_mem *mem;
    unsigned nqueues;
    struct virtq queues[VIRTIO_QUEUES_MAX];
    int kick_fds[VIRTIO_QUEUES_MAX]; /* eventfds: the transport or KVM writes, the device reads */
    uint64_t features;               /* agreed on; constant from FEATURES_OK to the reset */
    struct virtio_transport *transport;
};

/* What a device may ask of its transport; any thread. */
struct virtio_transport {
    /* Used buffers were added to a queue and the driver wants to know. */
    void (*notify_used)(struct virtio_transport *transport, unsigned queue);
    /*
     * The configuration space changed by itself. A driver is not told before DRIVER_OK: say so
     * again when a queue starts, if it may have read something else until then.
     */
    void (*notify_config)(struct virtio_transport *transport);
    /* The driver broke the rules: set DEVICE_NEEDS_RESET. */
    void (*needs_reset)(struct virtio_transport *transport);
};

/* Fill in the common part and make the eventfds. 0 or -errno. */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops,
                    const struct guest_mem *mem, unsigned nqueues) MUST_CHECK;
void virtio_dev_done(struct virtio_dev *dev);

/* For config_read: bytes [off, off + len) of `config`, zeroes where that is outside. */
void virtio_config_copy(const void *config, size_t config_len, uint32_t off, void *buf,
                        uint32_t len);

#endif
