/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_rig.h"

#include <linux/virtio_config.h>
#include <semaphore.h>
#include <string.h>

#include "tests/lib/settle.h"

struct virtio_rig rig;

void rig_set_up_with(uint64_t mem_len)
{
    struct err err;

    rig = (struct virtio_rig){0};
    ck_assert_int_eq(loop_thread_start(&rig.thread, "devices", &err), 0);
    rig.loop = rig.thread.loop;
    rig.mem = driver_mem_new(mem_len);
    ck_assert_int_eq(irq_init(&rig.irq, 5), 0);
}

void rig_set_up(void)
{
    rig_set_up_with(RIG_MEM_LEN);
}

void rig_add(struct virtio_dev *dev)
{
    rig.dev = dev;
    ck_assert_int_eq(virtio_mmio_new(dev, &rig.irq, &rig.mmio), 0);
}

void rig_tear_down(void)
{
    virtio_mmio_free(rig.mmio);
    loop_thread_stop(&rig.thread);
    loop_thread_free(&rig.thread);
    irq_done(&rig.irq);
    guest_mem_free(rig.mem);
}

void rig_bring_up_with(uint64_t features, uint16_t size)
{
    ck_assert(driver_negotiate(rig.mmio, features));
    for (unsigned i = 0; i < rig.dev->nqueues; i++) {
        driver_ring_init(&rig.rings[i], rig.mem, RIG_RING_GPA(i), size,
                         features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
        ck_assert(driver_setup_queue(rig.mmio, i, &rig.rings[i]));
    }
    driver_set_driver_ok(rig.mmio);
}

void rig_bring_up(void)
{
    rig_bring_up_with(driver_features(rig.mmio), 16);
}

void rig_settle(void)
{
    settle(rig.loop);
}

uint8_t *rig_guest(uint64_t gpa, size_t len)
{
    return driver_at(rig.mem, gpa, len);
}

bool rig_is_untouched(uint64_t gpa, size_t len)
{
    const uint8_t *bytes = rig_guest(gpa, len);

    return bytes[0] == RIG_UNTOUCHED && memcmp(bytes, bytes + 1, len - 1) == 0;
}

uint16_t rig_add_buffer(unsigned queue, uint64_t gpa, uint32_t len, bool writable)
{
    const struct driver_buf buf = {.gpa = gpa, .len = len, .writable = writable};

    return driver_add(&rig.rings[queue], &buf, 1);
}

void rig_kick(unsigned queue)
{
    if (driver_show(&rig.rings[queue]))
        driver_kick(rig.mmio, queue);
}

struct vring_used_elem rig_wait_used(unsigned queue)
{
    struct vring_used_elem elem;

    while (!driver_take(&rig.rings[queue], &elem)) {
        if (driver_want_interrupt(&rig.rings[queue]))
            continue;
        ck_assert_msg(driver_wait_irq(&rig.irq, RIG_TIMEOUT_MS), "no interrupt");
        (void)driver_ack(rig.mmio);
    }
    return elem;
}

bool rig_nothing_used(unsigned queue)
{
    struct vring_used_elem elem;

    rig_settle();
    return !driver_take(&rig.rings[queue], &elem);
}

bool rig_needs_reset(void)
{
    rig_settle();
    return driver_read32(rig.mmio, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static sem_t resting;
static uint64_t paused_ticket;

static void on_paused(struct virtio_pauser *pauser, uint64_t ticket)
{
    paused_ticket = ticket;
    (void)sem_post(&resting);
}

static struct virtio_pauser pauser = {.paused = on_paused};

void rig_pause(void)
{
    static uint64_t ticket;

    (void)sem_init(&resting, 0, 0);
    rig.dev->ops->pause(rig.dev, &pauser, ++ticket);
    ck_assert_int_eq(sem_wait(&resting), 0);
    ck_assert_uint_eq(paused_ticket, ticket);
}

void rig_resume(void)
{
    rig.dev->ops->resume(rig.dev);
}
