/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_hdr.h"

#include "base/bytes.h"
#include "devices/virtio/virtio.h"
#include "net/net.h"

#define CHECKSUM_LEN 2u

/* The checksum is inside, behind the Ethernet header. */
static bool has_place_for_checksum(const struct virtio_net_hdr_v1 *hdr, uint32_t len)
{
    uint32_t start = le16toh(hdr->csum_start);
    uint32_t offset = le16toh(hdr->csum_offset);

    return start >= NET_FRAME_MIN && start + offset + CHECKSUM_LEN <= len;
}

/* A frame to be cut has a checksum to be computed for each piece (5.1.6.2.1). */
static bool can_be_cut(const struct virtio_net_hdr_v1 *hdr, uint64_t offloads)
{
    uint64_t needed = hdr->gso_type == VIRTIO_NET_HDR_GSO_TCPV4
                          ? VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4)
                          : VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6);

    if (hdr->gso_type != VIRTIO_NET_HDR_GSO_TCPV4 && hdr->gso_type != VIRTIO_NET_HDR_GSO_TCPV6)
        return false;
    return (offloads & needed) && (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
           le16toh(hdr->gso_size) >= NET_GSO_SIZE_MIN;
}

bool net_hdr_check(struct virtio_net_hdr_v1 *hdr, uint32_t len, uint64_t offloads)
{
    hdr->num_buffers = 0;
    hdr->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (hdr->flags) {
        if (!(offloads & VIRTIO_FEATURE(VIRTIO_NET_F_CSUM)) || !has_place_for_checksum(hdr, len))
            return false;
    } else {
        hdr->csum_start = 0;
        hdr->csum_offset = 0;
    }
    if (hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        hdr->gso_size = 0;
        hdr->hdr_len = 0;
        return true;
    }
    hdr->hdr_len = htole16((uint16_t)min_u64(le16toh(hdr->hdr_len), len)); /* a hint */
    return can_be_cut(hdr, offloads);
}

uint32_t net_hdr_packets(const struct virtio_net_hdr_v1 *hdr, uint32_t len)
{
    uint32_t size = le16toh(hdr->gso_size);

    return hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE || size == 0 ? 1 : (len + size - 1) / size;
}
