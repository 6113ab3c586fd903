/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of virtio-net before each frame (virtio 1.2, 5.1.6). No state.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_HDR_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_NET_HDR_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/*
 * Smallest segment that a frame may ask to be cut into: what is left for data where the smallest
 * maximum segment that Linux uses (48) is full of options (40). One below would make the host work
 * on tens of thousands of packets for one frame.
 */
#define NET_GSO_SIZE_MIN 8u

/*
 * Look at the header of a frame of `len` bytes that a guest sends; `offloads` were agreed on
 * (net/net.h). False: it is not allowed, or makes no sense. Else what a device must ignore, or not
 * rely on, is put right.
 */
bool net_hdr_check(struct virtio_net_hdr_v1 *hdr, uint32_t len, uint64_t offloads) MUST_CHECK;

/* How many packets a frame will be on a wire. */
uint32_t net_hdr_packets(const struct virtio_net_hdr_v1 *hdr, uint32_t len);

#endif
