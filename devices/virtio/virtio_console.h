/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.2, 5.3) with one port: a terminal for the guest, which is told how large
 * it is, on a character device of the host.
 *
 * Made and freed on the main thread, whose loop the character device's back end lives on; queues
 * are worked on by another loop. The device holds no request: input that the guest has no buffer
 * for, and output that the host has no room for, wait where they are.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_CONSOLE_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_CONSOLE_H

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/chardev.h"
#include "devices/virtio/virtio.h"

struct virtio_console_options {
    struct loop *loop;       /* works on the queues; runs while the device exists */
    struct chardev *chardev; /* has no other front end; outlives the device */
};

/* The device is handed to a transport, whose end frees it. 0 or -errno. */
int virtio_console_new(const struct virtio_console_options *options, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev) MUST_CHECK;

#endif
