/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops,
                    const struct guest_mem *mem, unsigned nqueues)
{
    assert(nqueues >= 1 && nqueues <= VIRTIO_QUEUES_MAX);

    *dev = (struct virtio_dev){.ops = ops, .mem = mem};
    for (; dev->nqueues < nqueues; dev->nqueues++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        if (fd < 0) {
            int r = -errno;

            virtio_dev_done(dev);
            return r;
        }
        dev->kick_fds[dev->nqueues] = fd;
    }
    return 0;
}

void virtio_dev_done(struct virtio_dev *dev)
{
    while (dev->nqueues > 0)
        close(dev->kick_fds[--dev->nqueues]);
}

void virtio_config_copy(const void *config, size_t config_len, uint32_t off, void *buf,
                        uint32_t len)
{
    memset(buf, 0, len);
    if (off < config_len)
        memcpy(buf, (const uint8_t *)config + off, min_u64(len, config_len - off));
}
