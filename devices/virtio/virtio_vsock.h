/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.2, 5.10): stream sockets between programs of the guest and of the host.
 * What the host's programs connect to is behind struct vsock_host.
 *
 * Connections live as long as the guest's driver: a reset of the device, or its end, closes them.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_VSOCK_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_VSOCK_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/virtio.h"
#include "devices/virtio/vsock_host.h"

/* Addresses that a guest can have (5.10.4): those below, and the last one, mean something else. */
#define VIRTIO_VSOCK_CID_MIN 3u
#define VIRTIO_VSOCK_CID_MAX 0xfffffffeu

struct virtio_vsock_options {
    struct vsock_host *host; /* outlives the device; so does the loop, which runs */
    struct loop *loop;
    uint32_t cid;
};

/* 0 or -errno. */
int virtio_vsock_new(const struct virtio_vsock_options *options, const struct guest_mem *mem,
                     struct virtio_dev **ret_dev) MUST_CHECK;

/*
 * The guest's connections are gone, because it goes on where another one was (5.10.6.8): end them,
 * and tell it. Any thread.
 */
void virtio_vsock_reset_transport(struct virtio_dev *dev);

#endif
