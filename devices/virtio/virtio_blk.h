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
#include "devices/virtio/virtio_blk_on_error.h"

#define VIRTIO_BLK_SERIAL_MAX 20u

struct virtio_blk_failure {
    bool read;      /* or else a write, flush, discard */
    bool kept;      /* the VM is to be paused; when it goes on, the request is tried again */
    int error;      /* -errno */
    uint64_t round; /* for virtio_blk_waits */
};

struct virtio_blk_options {
    struct block_port *port; /* not owned; outlives the device; its loop runs while that exists */
    /*
     * For messages: "disk vda (root.qcow2)". Atomic; it may become another one. What it was and the
     * place where it is found outlive the device.
     */
    const char *const *label;
    const char *serial; /* at most VIRTIO_BLK_SERIAL_MAX bytes, copied; "" for none */
    unsigned nqueues;   /* 1 to VIRTIO_QUEUES_MAX */
    enum virtio_blk_on_error on_write_error; /* of all requests that are not reads */
    enum virtio_blk_on_error on_read_error;
    /*
     * A request failed, and not because it was cancelled. On the loop's thread. NULL: nobody wants
     * to know, and the guest is told.
     */
    void (*failed)(void *opaque, const struct virtio_blk_failure *failure);
    void *opaque;
};

/* The device is handed to a transport, whose end frees it. 0 or -errno. */
int virtio_blk_new(const struct virtio_blk_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev) MUST_CHECK;

/*
 * Is a request that was kept not tried again yet, nor about to be? Once the device was told to go
 * on it is, and the VM need not be paused for what is known of it. Main thread.
 */
bool virtio_blk_waits(struct virtio_dev *dev, const struct virtio_blk_failure *failure);

/*
 * From now on tell the guest of every failure, also of those kept so far if they happen again: it
 * shall come to its end. Main thread; returns at once.
 */
void virtio_blk_report_errors(struct virtio_dev *dev);

#endif
