/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/hostile_rings.h"

#include <assert.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop_thread.h"
#include "devices/virtio/virtio_mmio.h"
#include "tests/lib/devices/virtio/virtio_driver.h"
#include "tests/lib/settle.h"

#define QUEUE_HEADER ((size_t)3)

static struct hostile_rings world;

const struct hostile_rings *hostile_rings(void)
{
    static struct loop_thread thread;
    struct err err;

    if (world.loop)
        return &world;
    log_set_level(LOG_ERROR);
    world.mem = driver_mem_new(HOSTILE_RINGS_MEM_LEN);
    if (loop_thread_start(&thread, "devices", &err) < 0)
        abort();
    world.loop = thread.loop;
    return &world;
}

void hostile_rings_settle(void)
{
    settle(world.loop);
}

static void set_up_queue(struct virtio_mmio *mmio, unsigned index, uint32_t size,
                         const uint8_t *places)
{
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_SEL, index);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_NUM, size);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_DESC_LOW, places[0] * 256u);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_AVAIL_LOW, places[1] * 256u);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_USED_LOW, places[2] * 256u);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void kick_all(const struct virtio_dev *dev, struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < dev->nqueues; i++)
        driver_kick(mmio, i);
    hostile_rings_settle();
}

static void drive(const struct virtio_dev *dev, struct virtio_mmio *mmio, const uint8_t *data,
                  void (*between)(void *opaque), void *opaque)
{
    uint64_t features = driver_features(mmio);

    /* Half of the bits, in turns, and what no driver can do without. */
    if (!driver_negotiate(mmio, (features & data[0] * 0x0101010101010101ull) |
                                    VIRTIO_FEATURE(VIRTIO_F_VERSION_1)))
        return;
    for (unsigned i = 0; i < dev->nqueues; i++)
        set_up_queue(mmio, i, 1u << data[1] % 12, data + 2 + QUEUE_HEADER * i);
    driver_set_driver_ok(mmio);
    kick_all(dev, mmio);
    if (between)
        between(opaque);
    kick_all(dev, mmio);
}

void hostile_rings_run(struct virtio_dev *dev, const uint8_t *data, size_t size,
                       void (*between)(void *opaque), void *opaque)
{
    size_t header = 2 + QUEUE_HEADER * dev->nqueues;
    uint8_t *ram = driver_at(world.mem, 0, HOSTILE_RINGS_MEM_LEN);
    struct virtio_mmio *mmio;
    struct irq irq;

    if (irq_init(&irq, 5) < 0 || virtio_mmio_new(dev, &irq, &mmio) < 0)
        abort();
    memset(ram, 0, HOSTILE_RINGS_MEM_LEN);
    if (size > header) {
        memcpy(ram, data + header, min_u64(size - header, HOSTILE_RINGS_MEM_LEN));
        drive(dev, mmio, data, between, opaque);
    }
    virtio_mmio_free(mmio);
    irq_done(&irq);
}
