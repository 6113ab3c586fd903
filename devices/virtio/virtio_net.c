/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtio_net_card.h"
#include "devices/virtio/virtio_net_ctrl.h"
#include "devices/virtio/virtio_net_rx.h"
#include "devices/virtio/virtio_net_tx.h"
#include "devices/virtio/virtio_net_vhost.h"
#include "devices/virtio/virtio_rings.h"

#define FEATURE(name) VIRTIO_FEATURE(VIRTIO_NET_F_##name)

/* Queues (5.1.2): with one pair, the control queue is the third. */
enum { RX, TX, CTRL, NQUEUES };

struct virtio_net {
    struct net_card card;
    struct net_rx rx;
    struct net_tx tx;
    struct net_vhost vhost;
    struct net_user user;
    struct mac mac; /* with which a driver finds the card */
    void (*freed)(void *opaque);
    void *opaque;
    uint64_t features; /* offered */

    /* Owner: the loop's thread. */
    bool link_wanted;    /* by the user of the VM */
    bool config_is_news; /* it changed while nobody could be told */
    int offloads_result; /* of the back end, for those that the driver agreed to */

    /* What the driver reads, little-endian; atomic, the loop's thread writes. */
    uint64_t shown_mac;
    uint16_t shown_status;
};

static struct virtio_net *net_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_net, card.rings.dev);
}

/* ---- configuration space: the loop's thread -------------------------------------------------- */

static bool has_driver(const struct virtio_net *net)
{
    for (unsigned i = 0; i < NQUEUES; i++)
        if (virtio_ring_is_started(&net->card.rings.all[i]))
            return true;
    return false;
}

static void show_config(struct virtio_net *net)
{
    const struct net_card *card = &net->card;
    unsigned status = (card->link_up ? VIRTIO_NET_S_LINK_UP : 0) |
                      (card->must_announce ? VIRTIO_NET_S_ANNOUNCE : 0);
    uint64_t mac = 0;

    memcpy(&mac, &card->filter.mac, sizeof(card->filter.mac));
    __atomic_store_n(&net->shown_mac, mac, __ATOMIC_RELAXED);
    __atomic_store_n(&net->shown_status, htole16((uint16_t)status), __ATOMIC_RELAXED);
}

/* Before there is a driver, there may be no transport. */
static void tell_driver(struct virtio_net *net)
{
    const struct virtio_dev *dev = &net->card.rings.dev;

    net->config_is_news = !has_driver(net);
    if (!net->config_is_news)
        dev->transport->notify_config(dev->transport);
}

static void config_changed(struct net_card *card)
{
    struct virtio_net *net = container_of(card, struct virtio_net, card);

    show_config(net);
    tell_driver(net);
}

static void announce(struct virtio_net *net)
{
    if (!net_card_has(&net->card, VIRTIO_NET_F_GUEST_ANNOUNCE) || !net->card.link_up)
        return;
    net->card.must_announce = true;
    config_changed(&net->card);
}

static void take_back(struct virtio_net *net)
{
    net_vhost_take_back(&net->vhost, RX);
    net_vhost_take_back(&net->vhost, TX);
}

/* A guest whose link comes up may be at another place of the network: it says so. */
static void update_link(struct virtio_net *net)
{
    struct net_card *card = &net->card;
    bool up = net->link_wanted && card->net->link_up;

    if (up == card->link_up)
        return;
    card->link_up = up;
    card->must_announce = up && net_card_has(card, VIRTIO_NET_F_GUEST_ANNOUNCE);
    config_changed(card);
    if (!up)
        take_back(net);
    virtio_ring_look(net->tx.ring); /* what cannot be sent is dropped */
    virtio_ring_look(net->rx.ring);
}

/* ---- net_user: the loop's thread ------------------------------------------------------------- */

static void readable(struct net_user *user)
{
    net_rx_readable(&container_of(user, struct virtio_net, user)->rx);
}

static void writable(struct net_user *user)
{
    net_tx_go_on(&container_of(user, struct virtio_net, user)->tx);
}

static void link_changed(struct net_user *user)
{
    struct virtio_net *net = container_of(user, struct virtio_net, user);

    update_link(net);
    if (!net->card.net->link_up)
        net_tx_go_on(&net->tx); /* it is not full any more, and does not say so */
}

/* ---- rings: the loop's thread ---------------------------------------------------------------- */

static void receive(struct virtio_net *net)
{
    if (net_vhost_is_wanted(&net->vhost)) {
        net_rx_give_up(&net->rx);
        if (net_vhost_give(&net->vhost, RX))
            return;
    }
    net_rx_work(&net->rx);
}

static void send_all(struct virtio_net *net)
{
    if (!net_vhost_is_wanted(&net->vhost) || !net_vhost_give(&net->vhost, TX))
        net_tx_work(&net->tx);
}

static void work(struct virtio_ring *ring)
{
    struct virtio_net *net = container_of(ring->rings, struct virtio_net, card.rings);

    switch (ring->index) {
    case RX:
        receive(net);
        return;
    case TX:
        send_all(net);
        return;
    default:
        net_ctrl_work(&net->card, ring);
    }
}

/* Buffers in the pool are the driver's again if the queue is stopped. */
static void rest(struct virtio_ring *ring)
{
    struct virtio_net *net = container_of(ring->rings, struct virtio_net, card.rings);

    if (ring->index == CTRL)
        return;
    net_vhost_take_back(&net->vhost, ring->index);
    if (ring->index == RX)
        net_rx_rest(&net->rx);
    else
        net_tx_rest(&net->tx);
}

/* ---- virtio_ops: vCPU threads, under the transport's lock ------------------------------------ */

static uint64_t net_features(struct virtio_dev *dev)
{
    return net_of(dev)->features;
}

/* Begin as after a reset. */
static void features_ok_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;
    struct net_card *card = &net->card;

    card->must_announce = false;
    card->features = card->rings.dev.features; /* the vCPU waits */
    card->offloads = net_offloads_of(card->features);
    net->offloads_result = card->net->ops->set_offloads(card->net, card->offloads);
    net_vhost_features_ok(&net->vhost);
    net_filter_reset(&card->filter, &net->mac);
    show_config(net);
    net->config_is_news = false;
}

static void net_features_ok(struct virtio_dev *dev)
{
    struct virtio_net *net = net_of(dev);

    virtio_rings_features_ok(dev);
    loop_call(net->card.rings.loop, features_ok_on_loop, net);
}

static void begin_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    net_rx_begin(&net->rx);
}

static void tell_news_on_loop(void *opaque)
{
    struct virtio_net *net = opaque;

    if (net->config_is_news)
        tell_driver(net);
}

static int net_queue_start(struct virtio_dev *dev, unsigned index)
{
    struct virtio_net *net = net_of(dev);
    int r;

    if (net->offloads_result < 0)
        return net->offloads_result;
    if (index == RX)
        loop_call(net->card.rings.loop, begin_on_loop, net);
    r = virtio_rings_queue_start(dev, index);
    if (r == 0)
        loop_call(net->card.rings.loop, tell_news_on_loop, net);
    return r;
}

static void net_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    struct virtio_net *net = net_of(dev);
    uint64_t mac = __atomic_load_n(&net->shown_mac, __ATOMIC_RELAXED);
    struct virtio_net_config config = {
        .status = __atomic_load_n(&net->shown_status, __ATOMIC_RELAXED),
        .mtu = htole16(net->card.net->mtu),
    };

    memcpy(config.mac, &mac, sizeof(config.mac));
    virtio_config_copy(&config, sizeof(config), off, buf, len);
}

/* A driver changes the address by a command. */
static void net_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
}

static void detach_on_loop(void *opaque)
{
    struct net *back_end = opaque;

    back_end->ops->detach(back_end);
}

static void net_free(struct virtio_dev *dev)
{
    struct virtio_net *net = net_of(dev);

    loop_call(net->card.rings.loop, detach_on_loop, net->card.net);
    net_vhost_done(&net->vhost);
    net_tx_done(&net->tx);
    net_rx_done(&net->rx);
    virtio_rings_done(&net->card.rings);
    net->freed(net->opaque);
    free(net);
}

static const struct virtio_ops virtio_net_ops = {
    .name = "virtio-net",
    .device_id = VIRTIO_ID_NET,
    .features = net_features,
    .config_read = net_config_read,
    .config_write = net_config_write,
    .features_ok = net_features_ok,
    .queue_start = net_queue_start,
    .queue_stop = virtio_rings_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = net_free,
};

/* ---- the main thread ------------------------------------------------------------------------- */

struct link_call {
    struct virtio_net *net;
    bool up;
};

static void set_link_on_loop(void *opaque)
{
    const struct link_call *call = opaque;

    call->net->link_wanted = call->up;
    update_link(call->net);
}

void virtio_net_set_link(struct virtio_dev *dev, bool up)
{
    struct link_call call = {.net = net_of(dev), .up = up};

    loop_call(call.net->card.rings.loop, set_link_on_loop, &call);
}

static void announce_on_loop(void *opaque)
{
    announce(opaque);
}

void virtio_net_announce(struct virtio_dev *dev)
{
    struct virtio_net *net = net_of(dev);

    loop_call(net->card.rings.loop, announce_on_loop, net);
}

struct state_call {
    struct virtio_net *net;
    struct virtio_net_state *state;
};

static void get_state_on_loop(void *opaque)
{
    const struct state_call *call = opaque;
    const struct net_card *card = &call->net->card;

    *call->state = (struct virtio_net_state){
        .link_up = card->link_up,
        .by_kernel = card->rings.all[RX].lent || card->rings.all[TX].lent,
        .filter = card->filter,
    };
}

void virtio_net_get_state(struct virtio_dev *dev, struct virtio_net_state *ret_state)
{
    struct state_call call = {.net = net_of(dev), .state = ret_state};

    loop_call(call.net->card.rings.loop, get_state_on_loop, &call);
}

/* ---- setting up ------------------------------------------------------------------------------ */

static uint64_t features_for(const struct net *net)
{
    uint64_t features = FEATURE(MAC) | FEATURE(STATUS) | FEATURE(MRG_RXBUF) | FEATURE(CTRL_VQ) |
                        FEATURE(CTRL_RX) | FEATURE(CTRL_RX_EXTRA) | FEATURE(CTRL_MAC_ADDR) |
                        FEATURE(GUEST_ANNOUNCE) | (net->offloads & NET_OFFLOADS);

    if (net->offloads & NET_GUEST_OFFLOADS)
        features |= FEATURE(CTRL_GUEST_OFFLOADS);
    return net->mtu > 0 ? features | FEATURE(MTU) : features;
}

struct attach_call {
    struct virtio_net *net;
    int result;
};

static void attach_on_loop(void *opaque)
{
    struct attach_call *call = opaque;
    struct virtio_net *net = call->net;
    struct net *back_end = net->card.net;

    call->result = back_end->ops->attach(back_end, net->card.rings.loop, &net->user);
    net->card.link_up = net->link_wanted && back_end->link_up;
    show_config(net);
}

static int attach(struct virtio_net *net)
{
    struct attach_call call = {.net = net};

    loop_call(net->card.rings.loop, attach_on_loop, &call);
    return call.result;
}

static int make_parts(struct virtio_net *net, const struct virtio_net_options *options,
                      const struct guest_mem *mem)
{
    int r = virtio_rings_init(&net->card.rings, &virtio_net_ops, mem, NQUEUES);

    if (r < 0)
        return r;
    r = net_rx_init(&net->rx, &net->card, RX, &options->limits);
    if (r < 0)
        goto done_rings;
    r = net_tx_init(&net->tx, &net->card, TX, &options->limits);
    if (r < 0)
        goto done_rx;
    r = net_vhost_init(&net->vhost, &net->card, options->vhost);
    if (r < 0)
        goto done_tx;
    r = attach(net);
    if (r < 0)
        goto done_vhost;
    return 0;

done_vhost:
    net_vhost_done(&net->vhost);
done_tx:
    net_tx_done(&net->tx);
done_rx:
    net_rx_done(&net->rx);
done_rings:
    virtio_rings_done(&net->card.rings);
    return r;
}

static void init_card(struct net_card *card, const struct virtio_net_options *options)
{
    card->rings = (struct virtio_rings){
        .loop = options->loop,
        .counters = &options->counters->rings,
        .work = work,
        .rest = rest,
    };
    card->net = options->net;
    card->counters = options->counters;
    card->config_changed = config_changed;
    net_filter_reset(&card->filter, &options->mac);
}

int virtio_net_new(const struct virtio_net_options *options, const struct guest_mem *mem,
                   struct virtio_dev **ret_dev)
{
    struct virtio_net *net = calloc(1, sizeof(*net));
    int r;

    if (!net)
        return -ENOMEM;
    init_card(&net->card, options);
    net->mac = options->mac;
    net->freed = options->freed;
    net->opaque = options->opaque;
    net->link_wanted = options->link_up;
    net->features = features_for(options->net);
    net->user = (struct net_user){
        .readable = readable,
        .writable = writable,
        .link_changed = link_changed,
    };
    r = make_parts(net, options, mem);
    if (r < 0) {
        free(net);
        return r;
    }
    *ret_dev = &net->card.rings.dev;
    return 0;
}
