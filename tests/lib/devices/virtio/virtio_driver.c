/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/devices/virtio/virtio_driver.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/bytes.h"

static void NORETURN die(const char *what)
{
    fprintf(stderr, "virtio driver: %s\n", what);
    abort();
}

struct guest_mem *driver_mem_new(uint64_t len)
{
    const struct mem_range range = {.gpa = 0, .len = len};
    struct guest_mem *mem;
    struct err err = {0};

    if (guest_mem_new(&range, 1, &mem, &err) < 0)
        die(err.msg);
    return mem;
}

void *driver_at(const struct guest_mem *mem, uint64_t gpa, size_t len)
{
    void *host;

    if (guest_mem_at(mem, gpa, len, &host) < 0)
        die("the test's own buffer is outside of memory");
    return host;
}

/* ---- one ring -------------------------------------------------------------------------------- */

void driver_ring_init(struct driver_ring *ring, struct guest_mem *mem, uint64_t gpa, uint16_t size,
                      bool event_idx)
{
    *ring = (struct driver_ring){.mem = mem, .size = size, .event_idx = event_idx};
    memset(driver_at(mem, gpa, DRIVER_RING_BYTES(size)), 0, DRIVER_RING_BYTES(size));

    ring->desc_gpa = gpa;
    ring->avail_gpa = ring->desc_gpa + VIRTQ_DESC_BYTES(size);
    ring->used_gpa = align_up(ring->avail_gpa + VIRTQ_AVAIL_BYTES(size), 4);
    ring->desc = driver_at(mem, ring->desc_gpa, VIRTQ_DESC_BYTES(size));
    ring->avail = driver_at(mem, ring->avail_gpa, VIRTQ_AVAIL_BYTES(size));
    ring->used = driver_at(mem, ring->used_gpa, VIRTQ_USED_BYTES(size));
    while (ring->nfree < size) {
        ring->free[ring->nfree] = (uint16_t)(size - 1 - ring->nfree);
        ring->nfree++;
    }
}

/* The table may lie at any address. */
static void set_desc(void *table, size_t index, uint64_t addr, uint32_t len, uint16_t flags,
                     uint16_t next)
{
    const struct vring_desc desc = {
        .addr = htole64(addr),
        .len = htole32(len),
        .flags = htole16(flags),
        .next = htole16(next),
    };

    memcpy((uint8_t *)table + index * sizeof(desc), &desc, sizeof(desc));
}

void driver_set_desc(struct driver_ring *ring, uint16_t index, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    set_desc(ring->desc, index, addr, len, flags, next);
}

void driver_offer(struct driver_ring *ring, uint16_t head)
{
    ring->avail->ring[ring->avail_idx++ & (ring->size - 1)] = htole16(head);
}

uint16_t driver_add(struct driver_ring *ring, const struct driver_buf *bufs, size_t nbufs)
{
    uint16_t next = 0;
    uint16_t index = 0;

    if (nbufs == 0 || nbufs > ring->nfree)
        die("ring full");
    /* From the last buffer to the first: each descriptor names the one made before. */
    for (size_t i = nbufs; i-- > 0;) {
        uint16_t flags = bufs[i].writable ? VRING_DESC_F_WRITE : 0;

        if (i < nbufs - 1)
            flags |= VRING_DESC_F_NEXT;
        index = ring->free[--ring->nfree];
        driver_set_desc(ring, index, bufs[i].gpa, bufs[i].len, flags, next);
        next = index;
    }
    driver_offer(ring, index);
    return index;
}

uint16_t driver_add_indirect(struct driver_ring *ring, uint64_t table_gpa,
                             const struct driver_buf *bufs, size_t nbufs)
{
    const uint32_t len = (uint32_t)(nbufs * sizeof(struct vring_desc));
    void *table = driver_at(ring->mem, table_gpa, len);
    uint16_t index;

    if (ring->nfree == 0)
        die("ring full");
    for (size_t i = 0; i < nbufs; i++) {
        uint16_t flags = bufs[i].writable ? VRING_DESC_F_WRITE : 0;

        if (i < nbufs - 1)
            flags |= VRING_DESC_F_NEXT;
        set_desc(table, i, bufs[i].gpa, bufs[i].len, flags, (uint16_t)(i + 1));
    }
    index = ring->free[--ring->nfree];
    driver_set_desc(ring, index, table_gpa, len, VRING_DESC_F_INDIRECT, 0);
    driver_offer(ring, index);
    return index;
}

bool driver_show(struct driver_ring *ring)
{
    uint16_t old = ring->shown_idx;

    ring->shown_idx = ring->avail_idx;
    __atomic_store_n(&ring->avail->idx, htole16(ring->avail_idx), __ATOMIC_SEQ_CST);
    if (ring->event_idx) {
        const uint16_t *event = (uint16_t *)(void *)&ring->used->ring[ring->size];

        return vring_need_event(le16toh(__atomic_load_n(event, __ATOMIC_SEQ_CST)), ring->avail_idx,
                                old);
    }
    return !(le16toh(__atomic_load_n(&ring->used->flags, __ATOMIC_SEQ_CST)) &
             VRING_USED_F_NO_NOTIFY);
}

static void free_chain(struct driver_ring *ring, uint32_t head)
{
    uint16_t flags;

    do {
        flags = le16toh(ring->desc[head].flags);
        ring->free[ring->nfree++] = (uint16_t)head;
        head = le16toh(ring->desc[head].next);
    } while (flags & VRING_DESC_F_NEXT);
}

bool driver_take(struct driver_ring *ring, struct vring_used_elem *ret_elem)
{
    const struct vring_used_elem *elem;

    if (le16toh(__atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST)) == ring->used_idx)
        return false;
    elem = &ring->used->ring[ring->used_idx++ & (ring->size - 1)];
    ret_elem->id = le32toh(elem->id);
    ret_elem->len = le32toh(elem->len);
    if (ret_elem->id >= ring->size)
        die("the device used a chain that does not exist");
    free_chain(ring, ret_elem->id);
    return true;
}

bool driver_want_interrupt(struct driver_ring *ring)
{
    if (ring->event_idx)
        __atomic_store_n(&ring->avail->ring[ring->size], htole16(ring->used_idx), __ATOMIC_SEQ_CST);
    else
        __atomic_store_n(&ring->avail->flags, 0, __ATOMIC_SEQ_CST);
    return le16toh(__atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST)) != ring->used_idx;
}

/* ---- registers ------------------------------------------------------------------------------- */

uint32_t driver_read32(struct virtio_mmio *mmio, uint32_t off)
{
    return (uint32_t)virtio_mmio_bus_ops.read(mmio, off, 4);
}

void driver_write32(struct virtio_mmio *mmio, uint32_t off, uint32_t value)
{
    virtio_mmio_bus_ops.write(mmio, off, 4, value);
}

uint64_t driver_features(struct virtio_mmio *mmio)
{
    uint64_t features;

    driver_write32(mmio, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    features = driver_read32(mmio, VIRTIO_MMIO_DEVICE_FEATURES);
    driver_write32(mmio, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    return features | (uint64_t)driver_read32(mmio, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

bool driver_negotiate(struct virtio_mmio *mmio, uint64_t features)
{
    uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;

    driver_write32(mmio, VIRTIO_MMIO_STATUS, 0);
    driver_write32(mmio, VIRTIO_MMIO_STATUS, status);
    status |= VIRTIO_CONFIG_S_DRIVER;
    driver_write32(mmio, VIRTIO_MMIO_STATUS, status);
    for (unsigned page = 0; page < 2; page++) {
        driver_write32(mmio, VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
        driver_write32(mmio, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * page)));
    }
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    driver_write32(mmio, VIRTIO_MMIO_STATUS, status);
    return driver_read32(mmio, VIRTIO_MMIO_STATUS) == status;
}

static void write_addr(struct virtio_mmio *mmio, uint32_t low_off, uint64_t addr)
{
    driver_write32(mmio, low_off, (uint32_t)addr);
    driver_write32(mmio, low_off + 4, (uint32_t)(addr >> 32));
}

bool driver_setup_queue(struct virtio_mmio *mmio, unsigned index, const struct driver_ring *ring)
{
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_SEL, index);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_NUM, ring->size);
    write_addr(mmio, VIRTIO_MMIO_QUEUE_DESC_LOW, ring->desc_gpa);
    write_addr(mmio, VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring->avail_gpa);
    write_addr(mmio, VIRTIO_MMIO_QUEUE_USED_LOW, ring->used_gpa);
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_READY, 1);
    return driver_read32(mmio, VIRTIO_MMIO_QUEUE_READY) == 1;
}

void driver_set_driver_ok(struct virtio_mmio *mmio)
{
    driver_write32(mmio, VIRTIO_MMIO_STATUS,
                   driver_read32(mmio, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void driver_kick(struct virtio_mmio *mmio, unsigned queue)
{
    driver_write32(mmio, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

bool driver_wait_irq(const struct irq *irq, int timeout_ms)
{
    struct pollfd pfd = {.fd = irq->fd, .events = POLLIN};
    eventfd_t count;
    int n;

    do {
        n = poll(&pfd, 1, timeout_ms);
    } while (n < 0 && errno == EINTR);
    return n == 1 && eventfd_read(irq->fd, &count) == 0;
}

uint32_t driver_ack(struct virtio_mmio *mmio)
{
    uint32_t status = driver_read32(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    driver_write32(mmio, VIRTIO_MMIO_INTERRUPT_ACK, status);
    return status;
}
