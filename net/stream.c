/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <errno.h>
#include <string.h>

#include "base/iov.h"

static struct stream *stream_of(struct net *net)
{
    return container_of(net, struct stream, net);
}

/* ---- the peer -------------------------------------------------------------------------------- */

static void set_link(struct stream *stream, bool up)
{
    if (stream->net.link_up == up)
        return;
    stream->net.link_up = up;
    if (stream->user)
        stream->user->link_changed(stream->user);
}

/* On the loop's thread, and not inside a call of the user's. */
static void lose(struct stream *stream, int reason)
{
    stream_disconnect(stream);
    stream->lost(stream, reason);
}

static void tell_broken(struct loop_work *work)
{
    struct stream *stream = container_of(work, struct stream, broken);

    lose(stream, stream->reason);
}

/* Inside a call: whoever has to know is told after it. */
static void note_broken(struct stream *stream, int reason)
{
    if (stream->reason)
        return;
    stream->reason = reason;
    loop_remove_fd(&stream->watch);
    loop_post(stream->loop, &stream->broken);
}

static uint32_t wanted_events(const struct stream *stream)
{
    uint32_t events = 0;

    if (stream->wanted)
        events |= EPOLLIN;
    if (stream->refused || stream_wire_is_full(&stream->wire))
        events |= EPOLLOUT;
    return events;
}

static void update_events(struct stream *stream)
{
    int r;

    if (!stream->watch.loop)
        return;
    r = loop_set_events(&stream->watch, wanted_events(stream));
    if (r < 0)
        note_broken(stream, r);
}

static void tell_readable(struct stream *stream)
{
    stream->user->readable(stream->user);
    /* Nobody else tells of what has been read already. */
    if (stream->loop && stream->wanted && stream_wire_has_frame(&stream->wire))
        loop_post(stream->loop, &stream->again);
}

static void tell_again(struct loop_work *work)
{
    struct stream *stream = container_of(work, struct stream, again);

    if (stream->wanted && !stream->reason)
        tell_readable(stream);
}

/* There is room in the socket. */
static void write_on(struct stream *stream)
{
    int r = stream_wire_flush(&stream->wire);
    bool refused = stream->refused;

    if (r < 0) {
        note_broken(stream, r);
        return;
    }
    if (stream_wire_is_full(&stream->wire))
        return;
    stream->refused = false;
    update_events(stream);
    if (refused)
        stream->user->writable(stream->user);
}

static void socket_ready(struct loop_fd *watch, uint32_t events)
{
    struct stream *stream = container_of(watch, struct stream, watch);

    if (events & EPOLLOUT)
        write_on(stream);
    if (events & EPOLLIN && stream->wanted && stream->watch.loop)
        tell_readable(stream); /* also the end, where there is one */
    else if (events & (EPOLLERR | EPOLLHUP) && stream->watch.loop)
        lose(stream, -EPIPE);
}

static int watch_socket(struct stream *stream)
{
    stream->watch.fd = stream->wire.fd;
    stream->watch.events = wanted_events(stream);
    return loop_add_fd(stream->loop, &stream->watch);
}

/* ---- for back ends --------------------------------------------------------------------------- */

void stream_init(struct stream *stream)
{
    stream->wire.fd = -1;
    stream->watch.ready = socket_ready;
    stream->again.run = tell_again;
    stream->broken.run = tell_broken;
}

void stream_done(struct stream *stream)
{
    stream_wire_end(&stream->wire);
}

int stream_connect(struct stream *stream, int fd)
{
    int r = 0;

    stream_wire_begin(&stream->wire, fd);
    stream->reason = 0;
    if (stream->loop)
        r = watch_socket(stream);
    if (r < 0)
        stream_wire_end(&stream->wire);
    else
        set_link(stream, true);
    return r;
}

void stream_disconnect(struct stream *stream)
{
    loop_remove_fd(&stream->watch);
    if (stream->loop) {
        loop_cancel(stream->loop, &stream->again);
        loop_cancel(stream->loop, &stream->broken);
    }
    stream_wire_end(&stream->wire);
    stream->refused = false;
    set_link(stream, false);
}

int stream_attach(struct stream *stream, struct loop *loop, struct net_user *user)
{
    int r = 0;

    stream->loop = loop;
    if (stream_has_peer(stream))
        r = watch_socket(stream);
    if (r < 0) {
        stream->loop = NULL;
        return r;
    }
    stream->user = user;
    stream->wanted = stream->refused = false;
    stream->agreed = 0;
    return 0;
}

/* A peer that broke, and nobody was told of it yet, is no peer of the next user. */
void stream_detach(struct stream *stream)
{
    loop_cancel(stream->loop, &stream->again);
    loop_cancel(stream->loop, &stream->broken);
    loop_remove_fd(&stream->watch);
    if (stream->reason) {
        stream_wire_end(&stream->wire);
        stream->net.link_up = false;
    }
    stream_wire_forget(&stream->wire);
    stream->wanted = stream->refused = false;
    stream->user = NULL;
    stream->loop = NULL;
}

/* ---- operations ------------------------------------------------------------------------------ */

int stream_set_offloads(struct net *net, uint64_t offloads)
{
    struct stream *stream = stream_of(net);

    stream->agreed = offloads;
    stream_wire_forget(&stream->wire);
    return 0;
}

static void drop(struct net_frame *frames, unsigned nframes)
{
    for (unsigned i = 0; i < nframes; i++)
        frames[i].dropped = true;
}

unsigned stream_send(struct net *net, struct net_frame *frames, unsigned nframes)
{
    struct stream *stream = stream_of(net);
    unsigned taken = 0;
    int r = stream->reason;

    if (r == 0)
        r = stream_wire_send(&stream->wire, frames, nframes, &taken);
    if (r < 0) {
        note_broken(stream, r);
        drop(frames + taken, nframes - taken);
        return nframes;
    }
    stream->refused = taken < nframes;
    update_events(stream);
    return taken;
}

static void fill_header(const struct stream *stream, const struct iovec *first)
{
    struct virtio_net_hdr_v1 header = {0};

    if (stream->is_checked && stream->agreed & 1ull << VIRTIO_NET_F_GUEST_CSUM)
        header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    memcpy(first->iov_base, &header, sizeof(header));
}

ssize_t stream_receive(struct net *net, const struct iovec *iov, unsigned niov)
{
    struct stream *stream = stream_of(net);
    ssize_t r;

    if (stream->reason)
        return 0;
    r = stream_wire_receive(&stream->wire, iov, niov);
    if (r < 0 && r != -EMSGSIZE) {
        note_broken(stream, (int)r);
        return 0;
    }
    if (r > 0)
        fill_header(stream, iov);
    return r;
}

void stream_watch(struct net *net, bool on)
{
    struct stream *stream = stream_of(net);

    if (stream->wanted == on)
        return;
    stream->wanted = on;
    update_events(stream);
    if (on && stream_wire_has_frame(&stream->wire))
        loop_post(stream->loop, &stream->again);
}
