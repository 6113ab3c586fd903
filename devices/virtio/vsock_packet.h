/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of virtio-vsock (virtio 1.2, 5.10.6): a header in front of a payload, in host byte order
 * here. What a guest says in one is not checked beyond its length.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VSOCK_PACKET_H
#define MINIVMM_DEVICES_VIRTIO_VSOCK_PACKET_H

#include <linux/virtio_vsock.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"

#define VSOCK_HEADER_LEN ((uint32_t)sizeof(struct virtio_vsock_hdr))

/* The host's address (5.10.4). */
#define VSOCK_HOST_CID 2u

struct vsock_packet {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint32_t len; /* of the payload */
    uint16_t type;
    uint16_t op;
    uint32_t flags;
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
};

/* A copy of the header. 0, or -EINVAL if the buffers are shorter than one. */
int vsock_packet_read(const struct iovec *iov, unsigned niov,
                      struct vsock_packet *ret_packet) MUST_CHECK;

/* The buffers have room for a header. */
void vsock_packet_write(const struct vsock_packet *packet, const struct iovec *iov, unsigned niov);

#endif
