/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport, version 2 (virtio 1.2, 4.2).
 *
 * Registers run on vCPU threads under one lock. A write that stops a queue (Status 0, QueueReady 0,
 * QueueReset) waits there until none of its requests is in flight; interrupts of the device can be
 * served by other vCPUs meanwhile.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_MMIO_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_MMIO_H

#include "base/compiler.h"
#include "devices/bus.h"
#include "devices/irq.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_MMIO_LEN 0x1000u
#define VIRTIO_MMIO_QUEUE_NOTIFY_OFF 0x50u /* ioeventfd, 4 bytes, datamatch = queue index */

struct virtio_mmio;

extern const struct bus_ops virtio_mmio_bus_ops; /* dev: struct virtio_mmio */

/* Takes ownership of `dev` on success; `irq` stays the caller's. 0 or -errno. */
int virtio_mmio_new(struct virtio_dev *dev, struct irq *irq,
                    struct virtio_mmio **ret_mmio) MUST_CHECK;

/* Stops the device if it runs and frees both. No vCPU runs any more. */
void virtio_mmio_free(struct virtio_mmio *mmio);

#endif
