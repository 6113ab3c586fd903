/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/vsock_packet.h"

#include <endian.h>
#include <errno.h>

#include "base/iov.h"

int vsock_packet_read(const struct iovec *iov, unsigned niov, struct vsock_packet *ret_packet)
{
    struct virtio_vsock_hdr hdr;

    if (iov_to_buf(iov, niov, 0, &hdr, sizeof(hdr)) < sizeof(hdr))
        return -EINVAL;
    *ret_packet = (struct vsock_packet){
        .src_cid = le64toh(hdr.src_cid),
        .dst_cid = le64toh(hdr.dst_cid),
        .src_port = le32toh(hdr.src_port),
        .dst_port = le32toh(hdr.dst_port),
        .len = le32toh(hdr.len),
        .type = le16toh(hdr.type),
        .op = le16toh(hdr.op),
        .flags = le32toh(hdr.flags),
        .buf_alloc = le32toh(hdr.buf_alloc),
        .fwd_cnt = le32toh(hdr.fwd_cnt),
    };
    return 0;
}

void vsock_packet_write(const struct vsock_packet *packet, const struct iovec *iov, unsigned niov)
{
    const struct virtio_vsock_hdr hdr = {
        .src_cid = htole64(packet->src_cid),
        .dst_cid = htole64(packet->dst_cid),
        .src_port = htole32(packet->src_port),
        .dst_port = htole32(packet->dst_port),
        .len = htole32(packet->len),
        .type = htole16(packet->type),
        .op = htole16(packet->op),
        .flags = htole32(packet->flags),
        .buf_alloc = htole32(packet->buf_alloc),
        .fwd_cnt = htole32(packet->fwd_cnt),
    };

    (void)iov_from_buf(iov, niov, 0, &hdr, sizeof(hdr));
}
