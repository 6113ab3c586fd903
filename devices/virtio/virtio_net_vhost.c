/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_net_vhost.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

static struct virtio_ring *ring_of(const struct net_vhost_queue *queue)
{
    return &queue->vhost->card->rings.all[queue->index];
}

/* ---- the kernel has a queue ------------------------------------------------------------------ */

static void take_calls(struct net_vhost_queue *queue)
{
    struct virtio_transport *transport = queue->vhost->card->rings.dev.transport;
    eventfd_t calls;

    if (eventfd_read(queue->call.fd, &calls) == 0)
        transport->notify_used(transport, queue->index);
}

static void called(struct loop_fd *watch, uint32_t events)
{
    take_calls(container_of(watch, struct net_vhost_queue, call));
}

/* The kernel has left the ring alone since, but for that it would try again at each kick. */
static void erred(struct loop_fd *watch, uint32_t events)
{
    const struct net_vhost_queue *queue = container_of(watch, struct net_vhost_queue, error);

    net_vhost_take_back(queue->vhost, queue->index);
}

/* ---- giving it, and taking it back ----------------------------------------------------------- */

static int start(struct net_vhost_queue *queue)
{
    const struct net_card *card = queue->vhost->card;
    const struct vhost_net_queue given = {
        .index = queue->index,
        .vq = ring_of(queue)->vq,
        .tap_fd = card->net->ops->tap_fd(card->net),
        .kick_fd = card->rings.dev.kick_fds[queue->index],
        .call_fd = queue->call.fd,
        .error_fd = queue->error.fd,
    };
    int r = vhost_net_start(queue->vhost->kernel, &given);

    /* What was offered while nobody looked. */
    if (r == 0)
        (void)eventfd_write(given.kick_fd, 1); /* fails only when the count is full: kicked */
    return r;
}

static int watch(struct net_vhost_queue *queue)
{
    struct loop *loop = queue->vhost->card->rings.loop;
    int r = loop_add_fd(loop, &queue->call);

    return r == 0 ? loop_add_fd(loop, &queue->error) : r;
}

/* Did the kernel find an error? What it said is about the queue as it was. */
static bool unwatch(struct net_vhost_queue *queue)
{
    eventfd_t errors;

    loop_remove_fd(&queue->call);
    loop_remove_fd(&queue->error);
    return eventfd_read(queue->error.fd, &errors) == 0;
}

bool net_vhost_give(struct net_vhost *vhost, unsigned index)
{
    struct net_vhost_queue *queue = &vhost->queues[index];
    struct virtio_ring *ring = ring_of(queue);
    const uint16_t position = ring->vq->next_avail;
    int r = watch(queue);

    if (r == 0)
        r = virtio_ring_lend(ring);
    if (r == 0) {
        r = start(queue);
        if (r == 0)
            return true;
        virtio_ring_take_back(ring, position);
    }
    (void)unwatch(queue); /* it did not begin */
    log_warn("net %s: the kernel cannot work on a queue: %s: minivmm does it itself",
             vhost->card->net->label, strerror(-r));
    for (unsigned i = 0; i < NET_VHOST_QUEUES; i++)
        net_vhost_take_back(vhost, i);
    vhost->kernel = NULL;
    return false;
}

/* The driver is told of what the kernel used last, and of an error that it found last. */
void net_vhost_take_back(struct net_vhost *vhost, unsigned index)
{
    struct net_vhost_queue *queue = &vhost->queues[index];
    struct virtio_ring *ring = ring_of(queue);
    uint16_t position = 0;
    bool has_error;
    int r;

    if (!ring->lent)
        return;
    r = vhost_net_stop(vhost->kernel, index, &position);
    take_calls(queue);
    has_error = unwatch(queue);
    virtio_ring_take_back(ring, position);
    if (r < 0)
        log_warn("net %s: the kernel does not give back a queue: %s", vhost->card->net->label,
                 strerror(-r));
    else if (has_error)
        log_guest(LOG_WARN, "net %s: the kernel found an error in ring %u", vhost->card->net->label,
                  index);
    if (r < 0 || (has_error && virtio_ring_is_started(ring)))
        virtio_rings_break(&vhost->card->rings);
}

void net_vhost_features_ok(struct net_vhost *vhost)
{
    int r = vhost->kernel ? vhost_net_set_features(vhost->kernel, vhost->card->features) : 0;

    if (r < 0) {
        log_warn("net %s: the kernel cannot do what the driver wants: %s: minivmm does it itself",
                 vhost->card->net->label, strerror(-r));
        vhost->kernel = NULL;
    }
}

/* ---- setting up ------------------------------------------------------------------------------ */

static int make_event(struct loop_fd *watch, void (*ready)(struct loop_fd *watch, uint32_t events))
{
    *watch = (struct loop_fd){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .events = EPOLLIN,
        .ready = ready,
    };
    return watch->fd < 0 ? -errno : 0;
}

int net_vhost_init(struct net_vhost *vhost, struct net_card *card, struct vhost_net *kernel)
{
    int r = kernel ? vhost_net_set_memory(kernel, card->rings.dev.mem) : 0;

    *vhost = (struct net_vhost){.card = card, .kernel = kernel};
    for (unsigned i = 0; i < NET_VHOST_QUEUES; i++)
        vhost->queues[i] =
            (struct net_vhost_queue){.vhost = vhost, .index = i, .call.fd = -1, .error.fd = -1};
    for (unsigned i = 0; kernel && r == 0 && i < NET_VHOST_QUEUES; i++) {
        r = make_event(&vhost->queues[i].call, called);
        if (r == 0)
            r = make_event(&vhost->queues[i].error, erred);
    }
    if (r < 0)
        net_vhost_done(vhost);
    return r;
}

static void close_event(const struct loop_fd *watch)
{
    if (watch->fd >= 0)
        close(watch->fd);
}

void net_vhost_done(struct net_vhost *vhost)
{
    for (unsigned i = 0; i < NET_VHOST_QUEUES; i++) {
        close_event(&vhost->queues[i].call);
        close_event(&vhost->queues[i].error);
    }
}
