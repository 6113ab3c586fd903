/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/bytes.h"
#include "base/log.h"

#define MAGIC 0x74726976u  /* "virt" */
#define VERSION 2u         /* 1 is the legacy layout */
#define VENDOR 0x4d4d564du /* "MVMM" */

/* Newer than the kernel headers of Debian 12 (4.2.2). */
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0

/* The bits of Status that the driver sets; NEEDS_RESET is ours. */
#define STATUS_OF_DRIVER                                                                           \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |          \
     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

_Static_assert(VIRTIO_MMIO_QUEUE_NOTIFY_OFF == VIRTIO_MMIO_QUEUE_NOTIFY, "where drivers write");

struct virtio_mmio {
    struct virtio_transport transport;
    struct virtio_dev *dev;
    struct irq *irq;

    /* Atomic: vCPUs and the device's I/O thread, which takes no lock. */
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t config_generation;

    pthread_mutex_t lock; /* guards the rest */
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint64_t driver_features;
    bool beyond_features; /* the driver set a bit above 63, which no device offers */
    uint32_t queue_sel;
    bool running[VIRTIO_QUEUES_MAX]; /* the queue belongs to the device's I/O thread */
};

static struct virtio_mmio *mmio_of(struct virtio_transport *transport)
{
    return container_of(transport, struct virtio_mmio, transport);
}

static uint32_t get_status(const struct virtio_mmio *mmio)
{
    return __atomic_load_n(&mmio->status, __ATOMIC_ACQUIRE);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/*
 * One edge per event, and none is lost although InterruptStatus is one word for all of them:
 *
 *   device: publish (used idx) -> set the bit -> edge
 *   driver: read InterruptStatus -> acknowledge what it read -> look at used idx
 *
 * If the bit is set after the driver's read and was clear before, the acknowledgement leaves it
 * alone, and the edge, which comes later still, makes the driver read again. If it was set before,
 * so that the acknowledgement clears two events at once, the driver's look at used idx comes after
 * that and finds the second one, which was published before its bit was set; its edge is then one
 * that finds nothing to do. The edge must follow the bit: the other way round the driver could
 * look at a zero InterruptStatus and go away.
 */
static void interrupt(struct virtio_mmio *mmio, uint32_t bit)
{
    __atomic_fetch_or(&mmio->interrupt_status, bit, __ATOMIC_SEQ_CST);
    irq_raise(mmio->irq);
}

static void notify_used(struct virtio_transport *transport, unsigned queue)
{
    interrupt(mmio_of(transport), VIRTIO_MMIO_INT_VRING);
}

static void notify_config(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = mmio_of(transport);

    __atomic_fetch_add(&mmio->config_generation, 1, __ATOMIC_SEQ_CST);
    interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

static void needs_reset(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = mmio_of(transport);
    uint32_t old = __atomic_fetch_or(&mmio->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_SEQ_CST);

    /* 2.1.2: the driver is told once, and only if it has come as far as DRIVER_OK. */
    if ((old & VIRTIO_CONFIG_S_DRIVER_OK) && !(old & VIRTIO_CONFIG_S_NEEDS_RESET))
        interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static struct virtq *selected_queue(struct virtio_mmio *mmio)
{
    return mmio->queue_sel < mmio->dev->nqueues ? &mmio->dev->queues[mmio->queue_sel] : NULL;
}

/*
 * The selected queue if the driver may set it up now: between FEATURES_OK and DRIVER_OK (3.1.1), or
 * later if it may reset single queues (2.6.1.2), and only while the queue is not ready.
 */
static struct virtq *configurable_queue(struct virtio_mmio *mmio)
{
    struct virtq *vq = selected_queue(mmio);
    uint32_t status = get_status(mmio);

    if (!vq || vq->ready || !(status & VIRTIO_CONFIG_S_FEATURES_OK) ||
        (status & VIRTIO_CONFIG_S_FAILED))
        return NULL;
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) &&
        !(mmio->dev->features & VIRTIO_FEATURE(VIRTIO_F_RING_RESET)))
        return NULL;
    return vq;
}

static void start_queue(struct virtio_mmio *mmio, unsigned queue)
{
    struct virtio_dev *dev = mmio->dev;
    int r;

    if (!dev->queues[queue].ready || (get_status(mmio) & VIRTIO_CONFIG_S_NEEDS_RESET))
        return;
    r = dev->ops->queue_start(dev, queue);
    if (r < 0) {
        log_guest(LOG_WARN, "%s: cannot start queue %u: error %d", dev->ops->name, queue, -r);
        needs_reset(&mmio->transport);
        return;
    }
    mmio->running[queue] = true;
}

/* Waits for the requests in flight. */
static void stop_queue(struct virtio_mmio *mmio, unsigned queue)
{
    if (mmio->running[queue])
        mmio->dev->ops->queue_stop(mmio->dev, queue);
    mmio->running[queue] = false;
    virtq_reset(&mmio->dev->queues[queue]);
}

static void enable_queue(struct virtio_mmio *mmio)
{
    struct virtq *vq = configurable_queue(mmio);
    int r;

    if (!vq)
        return;
    r = virtq_enable(vq, mmio->dev->mem);
    if (r < 0) {
        log_guest(LOG_WARN, "%s: queue %u: bad size, alignment or address (error %d)",
                  mmio->dev->ops->name, mmio->queue_sel, -r);
        needs_reset(&mmio->transport);
        return;
    }
    if (get_status(mmio) & VIRTIO_CONFIG_S_DRIVER_OK)
        start_queue(mmio, mmio->queue_sel);
}

/*
 * A driver may stop to use a queue by QueueReady 0 at any time; once the write is done, the device
 * does not touch the rings any more (4.2.2.1). QueueReset is the same thing with the right to set
 * the queue up again. Both are complete when the write returns, so QueueReset always reads 0.
 */
static void disable_queue(struct virtio_mmio *mmio)
{
    if (mmio->queue_sel < mmio->dev->nqueues)
        stop_queue(mmio, mmio->queue_sel);
}

static void reset_queue(struct virtio_mmio *mmio)
{
    if (mmio->dev->features & VIRTIO_FEATURE(VIRTIO_F_RING_RESET))
        disable_queue(mmio);
}

static void set_low(uint64_t *addr, uint32_t value)
{
    *addr = (*addr & ~0xffffffffull) | value;
}

static void set_high(uint64_t *addr, uint32_t value)
{
    *addr = (*addr & 0xffffffffull) | (uint64_t)value << 32;
}

/* What the driver says of the selected queue. */
static const struct queue_register {
    uint64_t off;
    enum { QUEUE_SIZE, ADDR_LOW, ADDR_HIGH } kind;
    size_t addr; /* where in struct virtq; not for QUEUE_SIZE */
} queue_registers[] = {
    {VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE, 0},
    {VIRTIO_MMIO_QUEUE_DESC_LOW, ADDR_LOW, offsetof(struct virtq, desc_gpa)},
    {VIRTIO_MMIO_QUEUE_DESC_HIGH, ADDR_HIGH, offsetof(struct virtq, desc_gpa)},
    {VIRTIO_MMIO_QUEUE_AVAIL_LOW, ADDR_LOW, offsetof(struct virtq, avail_gpa)},
    {VIRTIO_MMIO_QUEUE_AVAIL_HIGH, ADDR_HIGH, offsetof(struct virtq, avail_gpa)},
    {VIRTIO_MMIO_QUEUE_USED_LOW, ADDR_LOW, offsetof(struct virtq, used_gpa)},
    {VIRTIO_MMIO_QUEUE_USED_HIGH, ADDR_HIGH, offsetof(struct virtq, used_gpa)},
};

/* NULL: it is another register. */
static const struct queue_register *find_queue_register(uint64_t off)
{
    for (size_t i = 0; i < ARRAY_SIZE(queue_registers); i++)
        if (queue_registers[i].off == off)
            return &queue_registers[i];
    return NULL;
}

static uint64_t *queue_addr(struct virtq *vq, const struct queue_register *reg)
{
    return (uint64_t *)((uint8_t *)vq + reg->addr);
}

static void write_queue_register(struct virtio_mmio *mmio, const struct queue_register *reg,
                                 uint32_t value)
{
    struct virtq *vq = configurable_queue(mmio);

    if (!vq) {
        log_guest(LOG_DEBUG, "%s: queue register %#llx written at the wrong time",
                  mmio->dev->ops->name, (unsigned long long)reg->off);
        return;
    }
    switch (reg->kind) {
    case QUEUE_SIZE:
        /* A size that does not fit in 16 bits is as wrong as 0: virtq_enable refuses it. */
        vq->size = value <= VIRTQ_SIZE_MAX ? (uint16_t)value : 0;
        break;
    case ADDR_LOW:
        set_low(queue_addr(vq, reg), value);
        break;
    case ADDR_HIGH:
        set_high(queue_addr(vq, reg), value);
        break;
    }
}

/* ---- features -------------------------------------------------------------------------------- */

static uint64_t offered_features(struct virtio_mmio *mmio)
{
    return mmio->dev->ops->features(mmio->dev) | VIRTIO_FEATURES_COMMON;
}

static uint32_t read_features(struct virtio_mmio *mmio)
{
    if (mmio->device_features_sel > 1)
        return 0;
    return (uint32_t)(offered_features(mmio) >> (32 * mmio->device_features_sel));
}

static void write_features(struct virtio_mmio *mmio, uint32_t value)
{
    switch (mmio->driver_features_sel) {
    case 0:
        set_low(&mmio->driver_features, value);
        break;
    case 1:
        set_high(&mmio->driver_features, value);
        break;
    default:
        if (value != 0)
            mmio->beyond_features = true;
    }
}

/*
 * The driver sets FEATURES_OK. False if the device cannot work with its choice (2.2.2). What is
 * agreed on is a copy, so later writes to the register change nothing (3.1.1).
 */
static bool agree_on_features(struct virtio_mmio *mmio)
{
    uint64_t features = mmio->driver_features;

    if (mmio->beyond_features || (features & ~offered_features(mmio)) ||
        !(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1))) {
        log_guest(LOG_INFO, "%s: the driver's features %#llx are refused", mmio->dev->ops->name,
                  (unsigned long long)features);
        return false;
    }
    mmio->dev->features = features;
    mmio->dev->ops->features_ok(mmio->dev);
    return true;
}

/* ---- status ---------------------------------------------------------------------------------- */

/*
 * Back to the state before the first driver. With requests in flight this waits for them, on the
 * vCPU that wrote the register: the guest may reuse their memory as soon as the write is done.
 */
static void reset(struct virtio_mmio *mmio)
{
    for (unsigned i = 0; i < mmio->dev->nqueues; i++)
        stop_queue(mmio, i);
    mmio->dev->features = 0;
    mmio->device_features_sel = 0;
    mmio->driver_features_sel = 0;
    mmio->driver_features = 0;
    mmio->beyond_features = false;
    mmio->queue_sel = 0;
    __atomic_store_n(&mmio->interrupt_status, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&mmio->status, 0, __ATOMIC_SEQ_CST);
}

static void set_status(struct virtio_mmio *mmio, uint32_t bit)
{
    __atomic_fetch_or(&mmio->status, bit, __ATOMIC_SEQ_CST);
}

/* The driver's steps, in order; each bit needs all those before it (3.1.1). */
static const uint32_t status_order[] = {
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_DRIVER_OK,
};

/* One step; false: refused, and so are those after it. */
static bool step_status(struct virtio_mmio *mmio, uint32_t bit)
{
    if (bit == VIRTIO_CONFIG_S_FEATURES_OK && !agree_on_features(mmio))
        return false;
    set_status(mmio, bit);
    if (bit == VIRTIO_CONFIG_S_DRIVER_OK) {
        for (unsigned i = 0; i < mmio->dev->nqueues; i++)
            start_queue(mmio, i);
    }
    return true;
}

static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
    uint32_t old = get_status(mmio) & STATUS_OF_DRIVER;

    if (value == 0) {
        reset(mmio);
        return;
    }
    /* 2.1.1: bits stay until a reset, and nothing but a reset follows FAILED. */
    if (old & VIRTIO_CONFIG_S_FAILED)
        return;
    if (value & VIRTIO_CONFIG_S_FAILED) {
        set_status(mmio, VIRTIO_CONFIG_S_FAILED);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(status_order); i++) {
        if (!(value & status_order[i]))
            return;
        if (!(old & status_order[i]) && !step_status(mmio, status_order[i]))
            return;
    }
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t off)
{
    struct virtq *vq = selected_queue(mmio);

    switch (off) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VERSION;
    case VIRTIO_MMIO_DEVICE_ID:
        return mmio->dev->ops->device_id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return read_features(mmio);
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return vq ? VIRTQ_SIZE_MAX : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return vq && vq->ready;
    case VIRTIO_MMIO_STATUS:
        return get_status(mmio);
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return __atomic_load_n(&mmio->config_generation, __ATOMIC_SEQ_CST);
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX; /* no device has shared memory: length and base are -1 */
    default:
        return 0;
    }
}

static void write_register(struct virtio_mmio *mmio, uint64_t off, uint32_t value)
{
    const struct queue_register *reg = find_queue_register(off);

    if (reg) {
        write_queue_register(mmio, reg, value);
        return;
    }
    switch (off) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        mmio->device_features_sel = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        write_features(mmio, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        mmio->driver_features_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        mmio->queue_sel = value;
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        if (value == 1)
            enable_queue(mmio);
        else if (value == 0)
            disable_queue(mmio);
        break;
    case VIRTIO_MMIO_QUEUE_RESET:
        if (value == 1)
            reset_queue(mmio);
        break;
    case VIRTIO_MMIO_STATUS:
        write_status(mmio, value);
        break;
    }
}

/* The driver uses aligned accesses of 4 bytes (4.2.2.2). Others read as zero and write nothing. */
static bool is_register(const struct virtio_mmio *mmio, uint64_t off, unsigned size)
{
    if (size == 4 && is_aligned(off, 4))
        return true;
    log_guest(LOG_DEBUG, "%s: access of %u bytes to register %#llx", mmio->dev->ops->name, size,
              (unsigned long long)off);
    return false;
}

static uint64_t bus_read_register(void *opaque, uint64_t off, unsigned size)
{
    struct virtio_mmio *mmio = opaque;
    uint8_t config[8] = {0};
    uint32_t value = 0;

    if (off < VIRTIO_MMIO_CONFIG && !is_register(mmio, off, size))
        return 0;
    /* Read in every interrupt: no vCPU waits here while another one waits for a reset. */
    if (off == VIRTIO_MMIO_INTERRUPT_STATUS)
        return __atomic_load_n(&mmio->interrupt_status, __ATOMIC_SEQ_CST);

    pthread_mutex_lock(&mmio->lock);
    if (off < VIRTIO_MMIO_CONFIG)
        value = read_register(mmio, off);
    else
        mmio->dev->ops->config_read(mmio->dev, (uint32_t)(off - VIRTIO_MMIO_CONFIG), config, size);
    pthread_mutex_unlock(&mmio->lock);
    return off < VIRTIO_MMIO_CONFIG ? value : load_le64(config);
}

static void kick(struct virtio_mmio *mmio, uint32_t queue)
{
    /* Usually KVM does this by itself (ioeventfd). Fails only when the count is full: kicked. */
    if (queue < mmio->dev->nqueues)
        (void)eventfd_write(mmio->dev->kick_fds[queue], 1);
}

static void bus_write_register(void *opaque, uint64_t off, unsigned size, uint64_t value)
{
    struct virtio_mmio *mmio = opaque;
    uint8_t config[8];

    if (off < VIRTIO_MMIO_CONFIG && !is_register(mmio, off, size))
        return;
    switch (off) {
    case VIRTIO_MMIO_INTERRUPT_ACK:
        __atomic_fetch_and(&mmio->interrupt_status, ~(uint32_t)value, __ATOMIC_SEQ_CST);
        return;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        kick(mmio, (uint32_t)value);
        return;
    }

    store_le64(config, value);
    pthread_mutex_lock(&mmio->lock);
    if (off < VIRTIO_MMIO_CONFIG)
        write_register(mmio, off, (uint32_t)value);
    else
        mmio->dev->ops->config_write(mmio->dev, (uint32_t)(off - VIRTIO_MMIO_CONFIG), config, size);
    pthread_mutex_unlock(&mmio->lock);
}

const struct bus_ops virtio_mmio_bus_ops = {
    .read = bus_read_register,
    .write = bus_write_register,
};

int virtio_mmio_new(struct virtio_dev *dev, struct irq *irq, struct virtio_mmio **ret_mmio)
{
    struct virtio_mmio *mmio;

    mmio = calloc(1, sizeof(*mmio));
    if (!mmio)
        return -ENOMEM;
    mmio->transport = (struct virtio_transport){
        .notify_used = notify_used,
        .notify_config = notify_config,
        .needs_reset = needs_reset,
    };
    mmio->dev = dev;
    mmio->irq = irq;
    pthread_mutex_init(&mmio->lock, NULL);
    dev->transport = &mmio->transport;
    *ret_mmio = mmio;
    return 0;
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
    if (!mmio)
        return;
    reset(mmio);
    mmio->dev->ops->free(mmio->dev);
    pthread_mutex_destroy(&mmio->lock);
    free(mmio);
}
