/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_ctrl.h"

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"

/* The data of a command, in guest memory. */
struct data {
    const struct virtq_chain *chain;
    uint32_t off; /* of what was not read yet */
    uint32_t left;
};

static void skip(struct data *data, uint32_t len)
{
    data->off += len;
    data->left -= len;
}

/* False: it is shorter. */
static bool take(struct data *data, void *buf, uint32_t len)
{
    if (len > data->left)
        return false;
    (void)iov_to_buf(data->chain->iov, data->chain->nout, data->off, buf, len);
    skip(data, len);
    return true;
}

/* Exactly one value. */
static bool take_only(struct data *data, void *buf, uint32_t len)
{
    return data->left == len && take(data, buf, len);
}

/* ---- commands: false is an error ------------------------------------------------------------- */

static bool set_rx_mode(struct net_card *card, uint8_t command, struct data *data)
{
    uint8_t on;

    return take_only(data, &on, sizeof(on)) && net_filter_set_mode(&card->filter, command, on != 0);
}

static bool take_table(struct data *data, struct net_filter_table *table)
{
    struct mac macs[NET_FILTER_MACS];
    uint8_t count[4];
    uint32_t n;

    if (!take(data, count, sizeof(count)))
        return false;
    n = load_le32(count);
    if (n > data->left / MAC_LEN)
        return false;
    if (n <= NET_FILTER_MACS)
        (void)take(data, macs, n * MAC_LEN);
    else
        skip(data, n * MAC_LEN);
    net_filter_fill(table, macs, n);
    return true;
}

/* Both tables, or neither. */
static bool set_mac_tables(struct net_card *card, uint8_t command, struct data *data)
{
    struct net_filter_table unicast;
    struct net_filter_table multicast;

    if (!take_table(data, &unicast) || !take_table(data, &multicast) || data->left > 0)
        return false;
    card->filter.unicast = unicast;
    card->filter.multicast = multicast;
    return true;
}

static bool set_mac(struct net_card *card, uint8_t command, struct data *data)
{
    struct mac mac;

    if (!take_only(data, &mac, sizeof(mac)) || mac_is_group(&mac) || mac_is_zero(&mac))
        return false;
    card->filter.mac = mac;
    card->config_changed(card);
    return true;
}

static bool acknowledge_announce(struct net_card *card, uint8_t command, struct data *data)
{
    if (!card->must_announce)
        return false;
    card->must_announce = false;
    card->config_changed(card);
    return true;
}

static bool set_guest_offloads(struct net_card *card, uint8_t command, struct data *data)
{
    uint8_t bytes[8];
    uint64_t wanted;
    uint64_t offloads;

    if (!take_only(data, bytes, sizeof(bytes)))
        return false;
    wanted = load_le64(bytes);
    if (wanted & ~(card->features & NET_GUEST_OFFLOADS))
        return false;
    offloads = net_offloads_of((card->offloads & ~NET_GUEST_OFFLOADS) | wanted);
    if (card->net->ops->set_offloads(card->net, offloads) < 0)
        return false;
    card->offloads = offloads;
    return true;
}

static const struct command {
    uint8_t class;
    uint8_t first; /* commands from this to `last` */
    uint8_t last;
    uint8_t feature; /* without it, there is no such command */
    bool (*carry_out)(struct net_card *card, uint8_t command, struct data *data);
} commands[] = {
    {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_CTRL_RX_ALLMULTI,
     VIRTIO_NET_F_CTRL_RX, set_rx_mode},
    {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, VIRTIO_NET_CTRL_RX_NOBCAST,
     VIRTIO_NET_F_CTRL_RX_EXTRA, set_rx_mode},
    {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_CTRL_MAC_TABLE_SET,
     VIRTIO_NET_F_CTRL_RX, set_mac_tables},
    {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_CTRL_MAC_ADDR_SET,
     VIRTIO_NET_F_CTRL_MAC_ADDR, set_mac},
    {VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_CTRL_ANNOUNCE_ACK,
     VIRTIO_NET_F_GUEST_ANNOUNCE, acknowledge_announce},
    {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
     VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_guest_offloads},
};

/* ---- the queue ------------------------------------------------------------------------------- */

static bool carry_out(struct net_card *card, const struct virtq_chain *chain)
{
    struct data data = {.chain = chain, .left = chain->out_len};
    struct virtio_net_ctrl_hdr hdr;

    if (!take(&data, &hdr, sizeof(hdr)))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        const struct command *command = &commands[i];

        if (command->class == hdr.class && command->first <= hdr.cmd && hdr.cmd <= command->last)
            return net_card_has(card, command->feature) && command->carry_out(card, hdr.cmd, &data);
    }
    return false;
}

/* Class, command and data; then room for the answer, which is one byte. */
void net_ctrl_work(struct net_card *card, struct virtio_ring *ring)
{
    const struct virtq_chain *chain;

    while ((chain = virtio_ring_next(ring))) {
        uint8_t ack = VIRTIO_NET_ERR;

        if (chain->in_len == 0)
            log_guest(LOG_WARN, "virtio-net: command without room for an answer");
        else if (carry_out(card, chain))
            ack = VIRTIO_NET_OK;
        virtq_push(
            ring->vq, chain->head,
            (uint32_t)iov_from_buf(chain->iov + chain->nout, chain->nin, 0, &ack, sizeof(ack)));
    }
}
