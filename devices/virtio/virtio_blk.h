/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2, 5.2) on a disk image, by way of its port.
 *
 * Each device has one I/O thread, named after the disk, with its own loop: it owns the image
 * while it is attached and all running queues.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BLK_H

#include "base/compiler.h"
#include "base/loop.h"
#include "block/port.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_BLK_SERIAL_MAX 20u

struct virtio_blk_options {
    struct block_port *port; /* not owned; outlives the device; its loop runs while that exists */
    const char *label;       /* for messages: "disk vda (root.qcow2)"; outlives the device */
    const char *serial;      /* at most VIRTIO_BLK_SERIAL_MAX bytes, copied; "" for none */
    unsigned nqueues;        /* 1 to VIRTIO_QUEUES_MAX */
};

/* The device is handed to a transport, whose end frees it. 0 or -errno. */
int virtio_blk_new(const struct virtio_blk_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev) MUST_CHECK;

#endif
