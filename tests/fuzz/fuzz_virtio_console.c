/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-console device on rings that are the input (hostile_rings.h), while keys are typed and
 * the reader is slow: the device takes no more keys than it has room for, writes to guest memory
 * only, and ends.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_console.h"
#include "tests/lib/devices/virtio/hostile_rings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A host that is full after so many bytes, until it says that it has room again. */
#define FULL_LEN 4096u

static struct {
    struct chardev chardev;
    struct chardev_front *front;
    atomic_ullong noutput;
} host;

static void host_write(struct chardev *chardev, const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum ^= data[i]; /* all of it is there to be read */
    atomic_fetch_add(&host.noutput, len + sum - sum);
}

static bool host_is_full(struct chardev *chardev)
{
    return atomic_load(&host.noutput) >= FULL_LEN;
}

static void host_accept_input(struct chardev *chardev)
{
}

static void host_set_front(struct chardev *chardev, struct chardev_front *front)
{
    host.front = front;
}

static struct chardev_size host_get_size(struct chardev *chardev)
{
    return (struct chardev_size){.columns = 80, .rows = 24};
}

static const struct chardev_ops host_ops = {
    .write = host_write,
    .is_full = host_is_full,
    .accept_input = host_accept_input,
    .set_front = host_set_front,
    .get_size = host_get_size,
};

/* Type as much as there is room for; the reader has caught up, and the terminal another size. */
static void between(void *opaque)
{
    static const uint8_t keys[4096];
    size_t room = host.front->can_receive(host.front);

    if (room > sizeof(keys))
        abort();
    if (room > 0)
        host.front->receive(host.front, keys, room);
    atomic_store(&host.noutput, 0);
    host.front->writable(host.front);
    host.front->resized(host.front);
    hostile_rings_settle();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct virtio_console_options options = {
        .loop = hostile_rings()->loop,
        .chardev = &host.chardev,
    };
    struct virtio_dev *dev;

    host.chardev.ops = &host_ops;
    atomic_store(&host.noutput, 0);
    if (virtio_console_new(&options, hostile_rings()->mem, &dev) < 0)
        abort();
    hostile_rings_run(dev, data, size, between, NULL);
    return 0;
}
