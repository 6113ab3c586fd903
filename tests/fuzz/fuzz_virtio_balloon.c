/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A balloon on rings that are the input (hostile_rings.h). While it runs, it is asked for what it
 * knows, its target changes, and the driver says how large it is and which pattern it fills free
 * pages with: the first bytes of the input, once more.
 */
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/virtio/virtio_balloon.h"
#include "tests/lib/devices/virtio/hostile_rings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct between {
    struct virtio_dev *dev;
    uint8_t head[8];
};

static void ignore(void *opaque)
{
}

static void use(void *opaque)
{
    const struct between *between = opaque;
    struct virtio_dev *dev = between->dev;
    struct virtio_balloon_stats stats;

    virtio_balloon_ask_stats(dev);
    virtio_balloon_set_target(dev, load_le32(between->head));
    dev->ops->config_write(dev, offsetof(struct virtio_balloon_config, actual), between->head, 4);
    dev->ops->config_write(dev, offsetof(struct virtio_balloon_config, poison_val),
                           between->head + 4, 4);
    virtio_balloon_get_stats(dev, &stats);
    if (virtio_balloon_size(dev) > HOSTILE_RINGS_MEM_LEN)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct virtio_balloon_options options = {
        .loop = hostile_rings()->loop,
        .resized = ignore,
        .freed = ignore,
    };
    struct between between = {0};

    if (virtio_balloon_new(&options, hostile_rings()->mem, &between.dev) < 0)
        abort();
    memcpy(between.head, data, min_u64(size, sizeof(between.head)));
    hostile_rings_run(between.dev, data, size, use, &between);
    return 0;
}
