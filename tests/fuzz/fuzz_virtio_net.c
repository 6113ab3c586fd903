/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network card on rings that are the input (hostile_rings.h): frames in both directions, and
 * commands. The first bytes of the input, once more, say what the back end does meanwhile: how many
 * frames it takes and has, and of which lengths, whether its link goes down and whether it filters;
 * and whether there are limits. It checks what it is given (fake_net.h).
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_net.h"
#include "tests/lib/devices/virtio/hostile_rings.h"
#include "tests/lib/net/fake_net.h"

#define HEAD_LEN 11u /* what says where rings are, too */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct between {
    struct virtio_dev *dev;
    struct fake_net *fake;
    struct virtio_pauser pauser;
    uint8_t head[HEAD_LEN];
};

static void give_frames(struct fake_net *fake, const uint8_t *head)
{
    static uint8_t bytes[UINT8_MAX * UINT8_MAX + NET_FRAME_MIN];
    struct virtio_net_hdr_v1 hdr = {.flags = head[1], .gso_type = head[2], .gso_size = head[3]};

    memcpy(bytes, head, MAC_LEN);
    for (unsigned i = 0; i < HEAD_LEN; i++)
        fake_net_give(fake, &hdr, bytes, head[i] * (uint32_t)head[(i + 1) % HEAD_LEN] / (i + 1));
}

static void work_on_loop(void *opaque)
{
    struct between *between = opaque;
    const uint8_t *head = between->head;

    give_frames(between->fake, head);
    fake_net_make_room(between->fake, head[2] % 4);
    if (head[5] & 1) {
        fake_net_set_link(between->fake, false);
        fake_net_set_link(between->fake, true);
    }
}

static void use(void *opaque)
{
    struct between *between = opaque;
    struct virtio_net_state state;

    loop_call(hostile_rings()->loop, work_on_loop, between);
    hostile_rings_settle();
    virtio_net_announce(between->dev);
    between->dev->ops->pause(between->dev, &between->pauser, 1);
    hostile_rings_settle();
    between->dev->ops->resume(between->dev);
    if (between->head[6] & 1)
        virtio_net_set_link(between->dev, between->head[6] & 2);
    virtio_net_get_state(between->dev, &state);
    if (state.filter.unicast.n > NET_FILTER_MACS || state.filter.multicast.n > NET_FILTER_MACS)
        abort();
}

static void note_freed(void *opaque)
{
}

static void note_paused(struct virtio_pauser *pauser, uint64_t ticket)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_net_counters counters = {0};
    struct between between = {.fake = fake_net_new(), .pauser.paused = note_paused};
    struct virtio_net_options options = {
        .net = &between.fake->net,
        .loop = hostile_rings()->loop,
        .counters = &counters,
        .mac = {{0x52, 0x54, 0, 0, 0, 1}},
        .link_up = true,
        .freed = note_freed,
    };

    memcpy(between.head, data, min_u64(size, HEAD_LEN));
    between.fake->room = between.head[3] % 4;
    between.fake->net.is_filtered = between.head[7] & 1;
    options.limits.pps = between.head[8] & 1 ? 10 : 0;
    between.fake->net.mtu = between.head[4] * 257;
    if (virtio_net_new(&options, hostile_rings()->mem, &between.dev) < 0)
        abort();
    hostile_rings_run(between.dev, data, size, use, &between);
    fake_net_free(between.fake);
    return 0;
}
