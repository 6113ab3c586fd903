/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/byte_queue.h"
#include "base/bytes.h"
#include "base/iov.h"
#include "devices/virtio/virtio_rings.h"

/* 5.3.2: queues of the first port. */
enum { RECEIVE_QUEUE, TRANSMIT_QUEUE, QUEUES };

/* Input on its way from the main loop to the one of the queues. */
#define INPUT_MAX 1024u

/* Output of a round of the loop: as much as is copied in some hundredths of a millisecond. */
#define ROUND_BYTES (256 * KIB)

struct virtio_console {
    struct virtio_rings rings;
    struct chardev *chardev;
    struct chardev_front front;
    struct loop_work look_at_input;  /* main thread: there is some */
    struct loop_work look_at_output; /* main thread: there is room */

    pthread_mutex_t lock; /* guards the rest */
    struct byte_queue input;
    bool listens; /* the guest takes input */
};

static struct virtio_console *console_of(struct virtio_dev *dev)
{
    return container_of(dev, struct virtio_console, rings.dev);
}

/* ---- output: the loop of the queues ---------------------------------------------------------- */

/* As one piece for each buffer; beyond its bounds the character device drops them, and says so. */
static void print(struct virtio_console *console, const struct virtq_chain *chain)
{
    for (unsigned i = 0; i < chain->nout; i++)
        console->chardev->ops->write(console->chardev, chain->iov[i].iov_base,
                                     chain->iov[i].iov_len);
}

/* What finds no room stays on the ring: the guest waits for a slow reader, and loses nothing. */
static void transmit(struct virtio_ring *ring)
{
    struct virtio_console *console = container_of(ring->rings, struct virtio_console, rings);
    const struct virtq_chain *chain;
    uint64_t done = 0;

    while (!console->chardev->ops->is_full(console->chardev)) {
        if (done >= ROUND_BYTES) {
            virtio_ring_again(ring);
            return;
        }
        chain = virtio_ring_next(ring);
        if (!chain)
            return;
        print(console, chain);
        done += chain->out_len;
        virtq_push(ring->vq, chain->head, 0);
    }
}

/* ---- input: the loop of the queues ----------------------------------------------------------- */

/* Move input to the chain's buffers; returns how much. */
static uint32_t take_input(struct virtio_console *console, const struct virtq_chain *chain)
{
    size_t len;

    pthread_mutex_lock(&console->lock);
    len = iov_from_buf(chain->iov + chain->nout, chain->nin, 0, byte_queue_front(&console->input),
                       console->input.len);
    byte_queue_consume(&console->input, len);
    pthread_mutex_unlock(&console->lock);
    return (uint32_t)len;
}

static bool has_input(struct virtio_console *console)
{
    bool has;

    pthread_mutex_lock(&console->lock);
    has = console->input.len > 0;
    pthread_mutex_unlock(&console->lock);
    return has;
}

static void receive(struct virtio_ring *ring)
{
    struct virtio_console *console = container_of(ring->rings, struct virtio_console, rings);
    const struct virtq_chain *chain;

    while (has_input(console) && (chain = virtio_ring_next(ring)))
        virtq_push(ring->vq, chain->head, take_input(console, chain));
    if (has_input(console))
        return;                    /* a kick tells of a buffer */
    virtq_disable_kicks(ring->vq); /* buffers are of interest when there is input */
    console->chardev->ops->accept_input(console->chardev);
}

static void work(struct virtio_ring *ring)
{
    if (ring->index == TRANSMIT_QUEUE)
        transmit(ring);
    else
        receive(ring);
}

static void look_at_input(struct loop_work *item)
{
    struct virtio_console *console = container_of(item, struct virtio_console, look_at_input);

    virtio_ring_again(&console->rings.all[RECEIVE_QUEUE]);
}

static void look_at_output(struct loop_work *item)
{
    struct virtio_console *console = container_of(item, struct virtio_console, look_at_output);

    virtio_ring_again(&console->rings.all[TRANSMIT_QUEUE]);
}

/* ---- the character device's side: the main thread -------------------------------------------- */

static struct virtio_console *console_of_front(struct chardev_front *front)
{
    return container_of(front, struct virtio_console, front);
}

static size_t front_can_receive(struct chardev_front *front)
{
    struct virtio_console *console = console_of_front(front);
    size_t room;

    pthread_mutex_lock(&console->lock);
    room = console->listens ? INPUT_MAX - console->input.len : 0;
    pthread_mutex_unlock(&console->lock);
    return room;
}

static void front_receive(struct chardev_front *front, const uint8_t *data, size_t len)
{
    struct virtio_console *console = console_of_front(front);

    pthread_mutex_lock(&console->lock);
    (void)byte_queue_append(&console->input, data, len, INPUT_MAX); /* short of memory: lost */
    pthread_mutex_unlock(&console->lock);
    loop_post(console->rings.loop, &console->look_at_input);
}

static void front_writable(struct chardev_front *front)
{
    struct virtio_console *console = console_of_front(front);

    loop_post(console->rings.loop, &console->look_at_output);
}

static void front_resized(struct chardev_front *front)
{
    struct virtio_console *console = console_of_front(front);

    console->rings.dev.transport->notify_config(console->rings.dev.transport);
}

/* ---- virtio_ops ------------------------------------------------------------------------------ */

static uint64_t console_features(struct virtio_dev *dev)
{
    return VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE);
}

static void console_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
    struct chardev *chardev = console_of(dev)->chardev;
    struct chardev_size size = chardev->ops->get_size(chardev);
    const struct virtio_console_config config = {
        .cols = htole16(size.columns),
        .rows = htole16(size.rows),
        .max_nr_ports = htole32(1),
    };

    virtio_config_copy(&config, sizeof(config), off, buf, len);
}

static void console_config_write(struct virtio_dev *dev, uint32_t off, const void *buf,
                                 uint32_t len)
{
}

static void set_listens(struct virtio_console *console, bool listens)
{
    pthread_mutex_lock(&console->lock);
    console->listens = listens;
    pthread_mutex_unlock(&console->lock);
    if (listens)
        console->chardev->ops->accept_input(console->chardev);
}

static int console_queue_start(struct virtio_dev *dev, unsigned queue)
{
    struct virtio_console *console = console_of(dev);
    int r = virtio_rings_queue_start(dev, queue);

    if (r == 0 && queue == RECEIVE_QUEUE)
        set_listens(console, true);
    /* Linux looks at the size when it is told of another one, and not before. */
    if (r == 0 && queue == TRANSMIT_QUEUE)
        dev->transport->notify_config(dev->transport);
    return r;
}

static void console_queue_stop(struct virtio_dev *dev, unsigned queue)
{
    struct virtio_console *console = console_of(dev);

    if (queue == RECEIVE_QUEUE)
        set_listens(console, false);
    virtio_rings_queue_stop(dev, queue);
}

static void leave_loop(void *opaque)
{
    struct virtio_console *console = opaque;

    loop_cancel(console->rings.loop, &console->look_at_input);
    loop_cancel(console->rings.loop, &console->look_at_output);
}

static void console_free(struct virtio_dev *dev)
{
    struct virtio_console *console = console_of(dev);

    console->chardev->ops->set_front(console->chardev, NULL);
    loop_call(console->rings.loop, leave_loop, console);
    virtio_rings_done(&console->rings);
    byte_queue_done(&console->input);
    pthread_mutex_destroy(&console->lock);
    free(console);
}

static const struct virtio_ops virtio_console_ops = {
    .name = "virtio-console",
    .device_id = VIRTIO_ID_CONSOLE,
    .features = console_features,
    .config_read = console_config_read,
    .config_write = console_config_write,
    .features_ok = virtio_rings_features_ok,
    .queue_start = console_queue_start,
    .queue_stop = console_queue_stop,
    .pause = virtio_rings_pause,
    .resume = virtio_rings_resume,
    .free = console_free,
};

/* ---- setting up ------------------------------------------------------------------------------ */

int virtio_console_new(const struct virtio_console_options *options, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev)
{
    struct virtio_console *console = calloc(1, sizeof(*console));
    int r;

    if (!console)
        return -ENOMEM;
    console->rings = (struct virtio_rings){
        .loop = options->loop,
        .work = work,
    };
    r = virtio_rings_init(&console->rings, &virtio_console_ops, mem, QUEUES);
    if (r < 0) {
        free(console);
        return r;
    }
    pthread_mutex_init(&console->lock, NULL);
    console->look_at_input.run = look_at_input;
    console->look_at_output.run = look_at_output;
    console->front = (struct chardev_front){
        .can_receive = front_can_receive,
        .receive = front_receive,
        .writable = front_writable,
        .resized = front_resized,
    };
    console->chardev = options->chardev;
    console->chardev->ops->set_front(console->chardev, &console->front);
    *ret_dev = &console->rings.dev;
    return 0;
}
