/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng (virtio 1.2, 5.4): random bytes of the host's kernel, straight into the buffers of the
 * guest, no faster than a limit.
 *
 * The device holds no request: what it cannot answer yet stays on the ring.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_RNG_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_RNG_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/virtio.h"

struct virtio_rng_options {
    struct loop *loop; /* works on the queue; runs while the device exists */
    uint64_t bps;      /* bytes per second; 0: as many as the host has */
};

/* The device is handed to a transport, whose end frees it. 0 or -errno. */
int virtio_rng_new(const struct virtio_rng_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev) MUST_CHECK;

#endif
