/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, version 2 (virtio 1.2, 4.2).
 *
 * Register writes run on vCPU threads under one lock. A write that stops a queue (Status 0,
 * QueueReady 0, QueueReset) waits there until none of its requests is in flight; interrupts of the
 * device can be served by other vCPUs meanwhile.
 *
 * What the driver reads is kept in a page of memory. Where the hypervisor can map that into the
 * guest, read-only, reads cost nothing; writes arrive as they do without. With the acknowledgement
 * of used buffers sent to an eventfd, an interrupt is then served without leaving the guest for
 * this process.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_MMIO_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_MMIO_H

#include "base/compiler.h"
#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_MMIO_LEN 0x1000u
#define VIRTIO_MMIO_QUEUE_NOTIFY_OFF 0x50u  /* ioeventfd, 4 bytes, datamatch = queue index */
#define VIRTIO_MMIO_INTERRUPT_ACK_OFF 0x64u /* ioeventfd, 4 bytes, datamatch = the next */
#define VIRTIO_MMIO_ACK_USED 1u

struct virtio_mmio;

extern const struct bus_ops virtio_mmio_bus_ops; /* dev: struct virtio_mmio */

/* Takes ownership of `dev` on success; `irq` stays the caller's. 0 or -errno. */
int virtio_mmio_new(struct virtio_dev *dev, struct irq *irq,
                    struct virtio_mmio **ret_mmio) MUST_CHECK;

/* VIRTIO_MMIO_LEN bytes, whole pages: what the registers read as, at any time, until the end. */
void *virtio_mmio_page(const struct virtio_mmio *mmio);

/*
 * An eventfd that may swallow acknowledgements of used buffers, and of nothing else, on their way
 * here. Only for a guest that has the page: InterruptStatus goes on to say that buffers were used.
 */
int virtio_mmio_ack_fd(const struct virtio_mmio *mmio);

/* Stop the device; no request of it is in flight afterwards. No vCPU runs any more. Any thread. */
void virtio_mmio_stop(struct virtio_mmio *mmio);

/* Stops the device if it runs and frees both. No vCPU runs any more. */
void virtio_mmio_free(struct virtio_mmio *mmio);

#endif
