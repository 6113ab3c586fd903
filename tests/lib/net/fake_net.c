/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/net/fake_net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"

static struct fake_net *fake_of(struct net *net)
{
    return container_of(net, struct fake_net, net);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static bool is_empty(const struct fake_queue *queue)
{
    return queue->head == queue->tail;
}

/* Frees what was in the place before. */
static struct fake_frame *add(struct fake_queue *queue, uint32_t len)
{
    struct fake_frame *frame = &queue->frames[queue->tail++ % FAKE_NET_FRAMES];

    assert(queue->tail - queue->head < FAKE_NET_FRAMES);
    free(frame->bytes);
    *frame = (struct fake_frame){.len = len, .bytes = malloc(len + 1ul)};
    assert(frame->bytes);
    return frame;
}

static struct fake_frame *take(struct fake_queue *queue)
{
    return is_empty(queue) ? NULL : &queue->frames[queue->head++ % FAKE_NET_FRAMES];
}

static void free_frames(struct fake_queue *queue)
{
    for (unsigned i = 0; i < FAKE_NET_FRAMES; i++)
        free(queue->frames[i].bytes);
}

/* ---- net_ops --------------------------------------------------------------------------------- */

static void post_readable(struct fake_net *fake)
{
    if (fake->watched && !is_empty(&fake->to_guest))
        loop_post(fake->loop, &fake->readable);
}

static void tell_readable(struct loop_work *work)
{
    struct fake_net *fake = container_of(work, struct fake_net, readable);

    if (!fake->watched || is_empty(&fake->to_guest))
        return;
    post_readable(fake);
    fake->user->readable(fake->user);
}

static void tell_writable(struct loop_work *work)
{
    struct fake_net *fake = container_of(work, struct fake_net, writable);

    fake->is_full = false;
    fake->user->writable(fake->user);
}

static int fake_attach(struct net *net, struct loop *loop, struct net_user *user)
{
    struct fake_net *fake = fake_of(net);

    assert(!fake->loop);
    if (fake->attach_result < 0)
        return fake->attach_result;
    fake->loop = loop;
    fake->user = user;
    return 0;
}

static void fake_detach(struct net *net)
{
    struct fake_net *fake = fake_of(net);

    assert(fake->loop && !fake->watched);
    loop_cancel(fake->loop, &fake->readable);
    loop_cancel(fake->loop, &fake->writable);
    fake->loop = NULL;
    fake->user = NULL;
}

static int fake_set_offloads(struct net *net, uint64_t offloads)
{
    struct fake_net *fake = fake_of(net);

    assert(!(offloads & ~net->offloads));
    fake->nsets++;
    if (fake->offloads_result < 0)
        return fake->offloads_result;
    fake->offloads = offloads;
    return 0;
}

static void check_frame(const struct fake_net *fake, const struct net_frame *frame)
{
    const struct virtio_net_hdr_v1 *hdr = frame->iov[0].iov_base;

    assert(frame->niov >= 2 && frame->niov <= NET_IOV_MAX);
    assert(frame->iov[0].iov_len == sizeof(*hdr));
    assert(frame->len >= NET_FRAME_MIN && frame->len <= NET_FRAME_MAX);
    assert(iov_len(frame->iov, frame->niov) == sizeof(*hdr) + frame->len);
    assert(!frame->dropped);
    if (hdr->flags) {
        assert(hdr->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert(fake->offloads & 1ull << VIRTIO_NET_F_CSUM);
        assert(le16toh(hdr->csum_start) + le16toh(hdr->csum_offset) + 2u <= frame->len);
    }
    if (hdr->gso_type) {
        assert(hdr->flags && hdr->gso_size && le16toh(hdr->hdr_len) <= frame->len);
        assert(fake->offloads & (1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6));
    }
}

static void keep(struct fake_net *fake, struct net_frame *frame)
{
    struct fake_frame *kept;

    fake->room--;
    if (fake->drop_every > 0 && (fake->from_guest.tail + 1) % fake->drop_every == 0) {
        frame->dropped = true;
        fake->from_guest.head = ++fake->from_guest.tail;
        return;
    }
    kept = add(&fake->from_guest, frame->len);
    memcpy(&kept->hdr, frame->iov[0].iov_base, sizeof(kept->hdr));
    (void)iov_to_buf(frame->iov, frame->niov, sizeof(kept->hdr), kept->bytes, frame->len);
}

static unsigned fake_send(struct net *net, struct net_frame *frames, unsigned nframes)
{
    struct fake_net *fake = fake_of(net);
    unsigned i;

    assert(fake->loop && net->link_up && !fake->is_full);
    assert(nframes >= 1 && nframes <= NET_SEND_MAX);
    fake->nsends++;
    for (i = 0; i < nframes && fake->room > 0; i++) {
        check_frame(fake, &frames[i]);
        keep(fake, &frames[i]);
    }
    fake->is_full = i < nframes;
    return i;
}

static ssize_t fake_receive(struct net *net, const struct iovec *iov, unsigned niov)
{
    struct fake_net *fake = fake_of(net);
    const struct fake_frame *frame;

    assert(fake->loop && niov >= 2 && niov <= NET_IOV_MAX);
    assert(iov[0].iov_len == sizeof(frame->hdr));
    fake->nreceives++;
    fake->room_seen = iov_len(iov + 1, niov - 1);
    frame = take(&fake->to_guest);
    if (!frame)
        return 0;
    if (frame->len < NET_FRAME_MIN || frame->len > fake->room_seen)
        return -EMSGSIZE;
    memcpy(iov[0].iov_base, &frame->hdr, sizeof(frame->hdr));
    (void)iov_from_buf(iov + 1, niov - 1, 0, frame->bytes, frame->len);
    return frame->len;
}

static void fake_watch(struct net *net, bool on)
{
    struct fake_net *fake = fake_of(net);

    assert(fake->loop && fake->watched != on);
    fake->watched = on;
    fake->nwatches++;
    post_readable(fake);
}

static void fake_close(struct net *net)
{
    struct fake_net *fake = fake_of(net);

    assert(!fake->loop);
    free_frames(&fake->to_guest);
    free_frames(&fake->from_guest);
    free(fake);
}

static int tap_fd(struct net *net)
{
    return FAKE_NET_TAP;
}

static const struct net_ops fake_net_ops = {
    .attach = fake_attach,
    .detach = fake_detach,
    .set_offloads = fake_set_offloads,
    .send = fake_send,
    .receive = fake_receive,
    .watch = fake_watch,
    .close = fake_close,
    .tap_fd = tap_fd,
};

/* ---- for tests ------------------------------------------------------------------------------- */

struct fake_net *fake_net_new(void)
{
    struct fake_net *fake = calloc(1, sizeof(*fake));

    assert(fake);
    fake->net = (struct net){
        .ops = &fake_net_ops,
        .kind = "fake",
        .label = "fake",
        .offloads = NET_OFFLOADS,
        .link_up = true,
    };
    fake->readable.run = tell_readable;
    fake->writable.run = tell_writable;
    fake->room = UINT32_MAX;
    return fake;
}

void fake_net_free(struct fake_net *fake)
{
    fake_close(&fake->net);
}

void fake_net_give(struct fake_net *fake, const struct virtio_net_hdr_v1 *hdr, const void *bytes,
                   uint32_t len)
{
    struct fake_frame *frame = add(&fake->to_guest, len);

    if (hdr)
        frame->hdr = *hdr;
    memcpy(frame->bytes, bytes, len);
    if (fake->loop)
        post_readable(fake);
}

const struct fake_frame *fake_net_take(struct fake_net *fake)
{
    return take(&fake->from_guest);
}

void fake_net_make_room(struct fake_net *fake, unsigned nframes)
{
    fake->room += nframes;
    if (fake->is_full)
        loop_post(fake->loop, &fake->writable);
}

void fake_net_set_link(struct fake_net *fake, bool up)
{
    fake->net.link_up = up;
    if (!up)
        fake->is_full = false;
    if (fake->user)
        fake->user->link_changed(fake->user);
}
