/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_filter.h"

#include <linux/virtio_net.h>
#include <string.h>

#include "base/bytes.h"

void net_filter_reset(struct net_filter *filter, const struct mac *mac)
{
    *filter = (struct net_filter){.mac = *mac};
    filter->modes[VIRTIO_NET_CTRL_RX_PROMISC] = true;
}

bool net_filter_set_mode(struct net_filter *filter, uint8_t command, bool on)
{
    if (command >= ARRAY_SIZE(filter->modes))
        return false;
    filter->modes[command] = on;
    return true;
}

void net_filter_fill(struct net_filter_table *table, const struct mac *macs, uint32_t n)
{
    table->overflow = n > NET_FILTER_MACS;
    table->n = table->overflow ? 0 : n;
    memcpy(table->macs, macs, table->n * sizeof(*macs));
}

static bool is_in(const struct net_filter_table *table, const struct mac *mac)
{
    if (table->overflow)
        return true;
    for (unsigned i = 0; i < table->n; i++)
        if (memcmp(&table->macs[i], mac, sizeof(*mac)) == 0)
            return true;
    return false;
}

static bool is_broadcast(const struct mac *mac)
{
    static const struct mac broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

    return memcmp(mac, &broadcast, sizeof(broadcast)) == 0;
}

bool net_filter_passes(const struct net_filter *filter, const struct mac *destination)
{
    const bool *modes = filter->modes;

    if (modes[VIRTIO_NET_CTRL_RX_PROMISC])
        return true;
    if (is_broadcast(destination))
        return !modes[VIRTIO_NET_CTRL_RX_NOBCAST];
    if (mac_is_group(destination))
        return !modes[VIRTIO_NET_CTRL_RX_NOMULTI] &&
               (modes[VIRTIO_NET_CTRL_RX_ALLMULTI] || is_in(&filter->multicast, destination));
    return !modes[VIRTIO_NET_CTRL_RX_NOUNI] &&
           (modes[VIRTIO_NET_CTRL_RX_ALLUNI] ||
            memcmp(destination, &filter->mac, sizeof(filter->mac)) == 0 ||
            is_in(&filter->unicast, destination));
}
