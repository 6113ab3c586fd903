/*
 * Virtio devices without their transport (virtio 1.2, 2 and 3).
 *
 * A device type is one file with one `const struct virtio_ops`. The transport (virtio_mmio.c)
 * owns status, features and queue addresses, and calls the device:
 *
 *   vCPU threads, under the transport's lock: features, config_read, config_write, start, stop
 *   the device's own I/O thread: whatever follows a kick of a queue
 *
 * Queues belong to the transport until `start` and to the device's I/O thread from then until
 * `stop` returns. `stop` waits until no request is in flight, so that the guest may reuse its
 * memory as soon as a reset is done.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_H
#define MINIVMM_DEVICES_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/irq.h"
#include "devices/virtq.h"
#include "vmm/base/compiler.h"
#include "vmm/guest_mem.h"

#define VIRTIO_ID_BLOCK 2u

/* Reserved feature bits (virtio 1.2, 6). */
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_RING_RESET (1ull << 40)

#define VIRTIO_QUEUES_MAX 16u
#define VIRTIO_QUEUE_SIZE_MAX 1024u

struct virtio_dev;

struct virtio_ops {
    const char *name;
    uint32_t device_id;
    /* Feature bits of this device type that it offers; the transport adds the reserved ones. */
    uint64_t (*features)(struct virtio_dev *dev);
    /* Device configuration space; the range may lie outside it: reads as zero, writes ignored. */
    void (*config_read)(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len);
    void (*config_write)(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len);
    /* DRIVER_OK with `dev->features` agreed on and the queues set up. 0 or -errno. */
    int (*start)(struct virtio_dev *dev) MUST_CHECK;
    /* Reset, or the end of the VM: quiesce; no queue or guest memory is touched afterwards. */
    void (*stop)(struct virtio_dev *dev);
    /* stop must have been called. */
    void (*free)(struct virtio_dev *dev);
};

/* The part common to all device types, embedded in each. */
struct virtio_dev {
    const struct virtio_ops *ops;
    const struct guest_mem *mem;
    unsigned nqueues;
    struct virtq queues[VIRTIO_QUEUES_MAX];
    int kick_fds[VIRTIO_QUEUES_MAX]; /* eventfds: the transport or KVM writes, the device reads */
    uint64_t features;               /* agreed on; constant from start to stop */
    struct virtio_transport *transport;
};

/* What a device may ask of its transport; any thread. */
struct virtio_transport {
    /* Used buffers were added to a queue and the driver wants to know. */
    void (*notify_used)(struct virtio_transport *transport, unsigned queue);
    /* The configuration space changed by itself. */
    void (*notify_config)(struct virtio_transport *transport);
    /* The driver broke the rules: set DEVICE_NEEDS_RESET. */
    void (*needs_reset)(struct virtio_transport *transport);
};

/* Fill in the common part: eventfds, queue count and sizes. 0 or -errno. */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops,
                    const struct guest_mem *mem, unsigned nqueues) MUST_CHECK;
void virtio_dev_done(struct virtio_dev *dev);

#endif
