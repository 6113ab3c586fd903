/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/net/tie.h"

#include <string.h>

#include "base/compiler.h"
#include "tests/lib/unit.h"

/* So many frames are taken in a round. */
#define ROUND_FRAMES 64u

/* Hand the frame on; false: there is no room for it. */
static bool give(struct tie_end *end)
{
    const struct iovec iov[] = {{&end->header, NET_HDR_LEN}, {end->frame, end->pending}};
    struct net_frame frame = {.iov = iov, .niov = 2, .len = end->pending};
    struct net *to = end->other->net;

    if (to->link_up && to->ops->send(to, &frame, 1) == 0) {
        end->net->ops->watch(end->net, false);
        return false;
    }
    end->nframes++;
    end->nwhole += end->header.gso_type != VIRTIO_NET_HDR_GSO_NONE;
    end->ndropped += frame.dropped || !to->link_up;
    end->pending = 0;
    return true;
}

static void readable(struct net_user *user)
{
    struct tie_end *end = container_of(user, struct tie_end, user);
    const struct iovec iov[] = {{&end->header, NET_HDR_LEN}, {end->frame, NET_FRAME_MAX}};

    for (unsigned n = 0; n < ROUND_FRAMES; n++) {
        ssize_t len = end->net->ops->receive(end->net, iov, 2);

        if (len == 0)
            return;
        if (len < 0)
            continue;
        end->pending = (uint32_t)len;
        if (!give(end))
            return;
    }
}

static void writable(struct net_user *user)
{
    struct tie_end *end = container_of(user, struct tie_end, user)->other;

    if (!end->pending || give(end))
        end->net->ops->watch(end->net, true);
}

static void link_changed(struct net_user *user)
{
}

/* What `from` may give if `to` is to take it. */
static uint64_t agree(const struct net *from, const struct net *to)
{
    uint64_t agreed = 0;

    if (to->offloads & 1ull << VIRTIO_NET_F_CSUM)
        agreed |= 1ull << VIRTIO_NET_F_GUEST_CSUM;
    if (to->offloads & 1ull << VIRTIO_NET_F_HOST_TSO4)
        agreed |= 1ull << VIRTIO_NET_F_GUEST_TSO4;
    if (to->offloads & 1ull << VIRTIO_NET_F_HOST_TSO6)
        agreed |= 1ull << VIRTIO_NET_F_GUEST_TSO6;
    return agreed & from->offloads;
}

static void attach(struct tie_end *end, struct loop *loop)
{
    struct net *net = end->net;

    end->user =
        (struct net_user){.readable = readable, .writable = writable, .link_changed = link_changed};
    ck_assert_int_eq(net->ops->attach(net, loop, &end->user), 0);
    ck_assert_int_eq(net->ops->set_offloads(net, agree(net, end->other->net)), 0);
    net->ops->watch(net, true);
}

void tie_on(struct tie *tie, struct loop *loop, struct net *a, struct net *b)
{
    memset(tie, 0, sizeof(*tie));
    tie->ends[0].net = a;
    tie->ends[1].net = b;
    for (unsigned i = 0; i < 2; i++)
        tie->ends[i].other = &tie->ends[1 - i];
    for (unsigned i = 0; i < 2; i++)
        attach(&tie->ends[i], loop);
}

void tie_off(struct tie *tie)
{
    for (unsigned i = 0; i < 2; i++)
        tie->ends[i].net->ops->detach(tie->ends[i].net);
}
