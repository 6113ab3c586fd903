/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control/wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"

/* What is read at a time: a client that never stops sending must leave the loop to others. */
#define READ_MAX 4096u

bool wire_is_busy(const struct wire *wire)
{
    return wire->out.len > WIRE_OUT_BUSY;
}

bool wire_is_ending(const struct wire *wire)
{
    struct pollfd poll_fd = {.fd = wire->watch.fd, .events = POLLRDHUP};

    return wire->broken || wire->finishing || poll(&poll_fd, 1, 0) > 0;
}

static bool wants_input(const struct wire *wire)
{
    return !wire->paused && !wire->eof && !wire->finishing && !wire_is_busy(wire);
}

static void set_events(struct wire *wire)
{
    uint32_t events = (wants_input(wire) ? EPOLLIN : 0u) | (wire->out.len > 0 ? EPOLLOUT : 0u);

    if (wire->broken)
        return;
    /* Fails only for want of kernel memory, which a later change of the same kind makes good. */
    if (loop_set_events(&wire->watch, events) < 0)
        wire_drop(wire);
}

static void flush(struct wire *wire)
{
    while (!wire->broken && wire->out.len > 0) {
        ssize_t n = send(wire->watch.fd, byte_queue_front(&wire->out), wire->out.len,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            wire_drop(wire);
            return;
        }
        byte_queue_consume(&wire->out, (size_t)n);
    }
    if (wire->finishing && wire->out.len == 0)
        wire_drop(wire);
}

static void receive(struct wire *wire)
{
    char data[READ_MAX];
    ssize_t n = recv(wire->watch.fd, data, sizeof(data), MSG_DONTWAIT);

    if (n > 0) {
        wire->ops->received(wire, data, (size_t)n);
    } else if (n == 0) {
        wire->eof = true;
        wire->ops->ended(wire);
    } else if (errno != EAGAIN && errno != EINTR) {
        wire_drop(wire);
    }
}

static void on_ready(struct loop_fd *watch, uint32_t events)
{
    struct wire *wire = container_of(watch, struct wire, watch);
    bool was_busy = wire_is_busy(wire);

    if (events & EPOLLERR) {
        wire_drop(wire);
        return;
    }
    flush(wire);
    if (!wire->broken && was_busy && !wire_is_busy(wire))
        wire->ops->drained(wire);
    if (!wire->broken && wants_input(wire) && (events & (EPOLLIN | EPOLLHUP)))
        receive(wire);
    /* Both directions are gone, and epoll would report that for ever. */
    if (events & EPOLLHUP && !wants_input(wire))
        wire_drop(wire);
    set_events(wire);
}

static void on_close(struct loop_work *work)
{
    struct wire *wire = container_of(work, struct wire, close_work);

    wire_close(wire);
    wire->ops->closed(wire);
}

int wire_open(struct wire *wire, const struct wire_ops *ops, struct loop *loop, int fd)
{
    int r;

    *wire = (struct wire){
        .ops = ops,
        .loop = loop,
        .watch = {.fd = fd, .events = EPOLLIN, .ready = on_ready},
        .close_work.run = on_close,
    };
    r = loop_add_fd(loop, &wire->watch);
    if (r < 0)
        close(fd);
    return r;
}

void wire_send(struct wire *wire, const char *data, size_t len)
{
    if (wire->broken || wire->finishing)
        return;
    if (byte_queue_append(&wire->out, (const uint8_t *)data, len, WIRE_OUT_MAX) < len) {
        wire_drop(wire);
        return;
    }
    flush(wire);
    set_events(wire);
}

void wire_pause(struct wire *wire, bool paused)
{
    wire->paused = paused;
    set_events(wire);
}

void wire_finish(struct wire *wire)
{
    wire->finishing = true;
    flush(wire);
    set_events(wire);
}

void wire_drop(struct wire *wire)
{
    if (wire->broken)
        return;
    wire->broken = true;
    loop_remove_fd(&wire->watch);
    loop_post(wire->loop, &wire->close_work);
}

void wire_close(struct wire *wire)
{
    if (!wire->broken)
        flush(wire);
    wire->broken = true;
    loop_cancel(wire->loop, &wire->close_work);
    loop_remove_fd(&wire->watch);
    if (wire->watch.fd >= 0)
        close(wire->watch.fd);
    wire->watch.fd = -1;
    byte_queue_done(&wire->out);
}
