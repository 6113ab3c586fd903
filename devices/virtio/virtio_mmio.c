/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/virtio/virtio_mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* Bytes of configuration space that a device type can have; those after it read as zero. */
#define CONFIG_LEN 256u

_Static_assert(VIRTIO_MMIO_QUEUE_NOTIFY_OFF == VIRTIO_MMIO_QUEUE_NOTIFY, "where drivers write");
_Static_assert(VIRTIO_MMIO_INTERRUPT_ACK_OFF == VIRTIO_MMIO_INTERRUPT_ACK, "where drivers write");
_Static_assert(VIRTIO_MMIO_ACK_USED == VIRTIO_MMIO_INT_VRING, "what drivers write");

struct virtio_mmio {
    struct virtio_transport transport;
    struct virtio_dev *dev;
    struct irq *irq;
    int ack_fd;

    /*
     * All that the driver reads: VIRTIO_MMIO_LEN bytes, little-endian, which the guest may have in
     * its memory. Status, InterruptStatus and ConfigGeneration live here and nowhere else: atomic,
     * because vCPUs and the device's I/O thread change them, which takes no lock. The other words
     * are stored when they change, by whoever changed them.
     */
    uint8_t *page;

    /* Guards the copy of the configuration space in `page`. Nobody waits for anything with it. */
    pthread_mutex_t config_lock;

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

/* ---- what the driver reads ------------------------------------------------------------------- */

static uint32_t *word_at(const struct virtio_mmio *mmio, uint64_t off)
{
    return (uint32_t *)(void *)(mmio->page + off);
}

static uint32_t load_word(const struct virtio_mmio *mmio, uint64_t off)
{
    return le32toh(__atomic_load_n(word_at(mmio, off), __ATOMIC_SEQ_CST));
}

static void store_word(struct virtio_mmio *mmio, uint64_t off, uint32_t value)
{
    __atomic_store_n(word_at(mmio, off), htole32(value), __ATOMIC_SEQ_CST);
}

/* Returns what was there before. */
static uint32_t set_bits(struct virtio_mmio *mmio, uint64_t off, uint32_t bits)
{
    return le32toh(__atomic_fetch_or(word_at(mmio, off), htole32(bits), __ATOMIC_SEQ_CST));
}

static void clear_bits(struct virtio_mmio *mmio, uint64_t off, uint32_t bits)
{
    __atomic_fetch_and(word_at(mmio, off), htole32(~bits), __ATOMIC_SEQ_CST);
}

static uint32_t get_status(const struct virtio_mmio *mmio)
{
    return load_word(mmio, VIRTIO_MMIO_STATUS);
}

static void next_generation(struct virtio_mmio *mmio)
{
    store_word(mmio, VIRTIO_MMIO_CONFIG_GENERATION,
               load_word(mmio, VIRTIO_MMIO_CONFIG_GENERATION) + 1);
}

/* What did not change is left alone: another vCPU may be reading it. */
static void store_config(struct virtio_mmio *mmio)
{
    uint64_t config[CONFIG_LEN / sizeof(uint64_t)];
    uint64_t *shown = (uint64_t *)(void *)(mmio->page + VIRTIO_MMIO_CONFIG);

    mmio->dev->ops->config_read(mmio->dev, 0, config, sizeof(config));
    for (size_t i = 0; i < ARRAY_SIZE(config); i++)
        if (shown[i] != config[i])
            __atomic_store_n(&shown[i], config[i], __ATOMIC_SEQ_CST);
}

/*
 * The generation goes up where a field changed that the driver did not write (4.2.2.1). A driver
 * reads the generation, the words of a field, and the generation again, and starts anew if that
 * changed (2.5.1). It may do so without an exit, while this changes the page:
 *
 *   device: generation -> fields, each of 8 bytes by one store -> generation -> interrupt
 *
 * Had the fields changed before any generation, a driver could read half of the old field and half
 * of the new one before it looked for the second time; had they changed after it, before it looked
 * for the first time. As it is, it would have to look twice between the two changes, and read the
 * halves around one store there. Even then the interrupt comes later and makes it read once more.
 */
static void show_config(struct virtio_mmio *mmio, bool changed_by_itself)
{
    pthread_mutex_lock(&mmio->config_lock);
    if (changed_by_itself)
        next_generation(mmio);
    store_config(mmio);
    if (changed_by_itself)
        next_generation(mmio);
    pthread_mutex_unlock(&mmio->config_lock);
}

/* Registers that never change. No device has shared memory: length and base are -1. */
static void show_identity(struct virtio_mmio *mmio)
{
    store_word(mmio, VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
    store_word(mmio, VIRTIO_MMIO_VERSION, VERSION);
    store_word(mmio, VIRTIO_MMIO_DEVICE_ID, mmio->dev->ops->device_id);
    store_word(mmio, VIRTIO_MMIO_VENDOR_ID, VENDOR);
    store_word(mmio, VIRTIO_MMIO_SHM_LEN_LOW, UINT32_MAX);
    store_word(mmio, VIRTIO_MMIO_SHM_LEN_HIGH, UINT32_MAX);
    store_word(mmio, VIRTIO_MMIO_SHM_BASE_LOW, UINT32_MAX);
    store_word(mmio, VIRTIO_MMIO_SHM_BASE_HIGH, UINT32_MAX);
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
 *
 * Where KVM takes acknowledgements of used buffers (virtio_mmio_ack_fd), the bit for these stays
 * set from the first interrupt on. That adds no interrupt and hides none: the driver looks at the
 * rings whenever it reads the bit, and an edge without a reason finds nothing to do.
 */
static void interrupt(struct virtio_mmio *mmio, uint32_t bit)
{
    (void)set_bits(mmio, VIRTIO_MMIO_INTERRUPT_STATUS, bit);
    irq_raise(mmio->irq);
}

static void notify_used(struct virtio_transport *transport, unsigned queue)
{
    interrupt(mmio_of(transport), VIRTIO_MMIO_INT_VRING);
}

static void notify_config(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = mmio_of(transport);

    show_config(mmio, true);
    /*
     * 2.1.2: nobody is interrupted before DRIVER_OK. A guest that has not set its interrupt
     * controllers up yet would be lost.
     */
    if (get_status(mmio) & VIRTIO_CONFIG_S_DRIVER_OK)
        interrupt(mmio, VIRTIO_MMIO_INT_CONFIG);
}

static void needs_reset(struct virtio_transport *transport)
{
    struct virtio_mmio *mmio = mmio_of(transport);
    uint32_t old = set_bits(mmio, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_NEEDS_RESET);

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
    store_word(mmio, VIRTIO_MMIO_INTERRUPT_STATUS, 0);
    store_word(mmio, VIRTIO_MMIO_STATUS, 0);
}

static void set_status(struct virtio_mmio *mmio, uint32_t bit)
{
    (void)set_bits(mmio, VIRTIO_MMIO_STATUS, bit);
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

/* What can be read of that which depends on what was written. */
static void show_selected(struct virtio_mmio *mmio)
{
    const struct virtq *vq = selected_queue(mmio);

    store_word(mmio, VIRTIO_MMIO_DEVICE_FEATURES, read_features(mmio));
    store_word(mmio, VIRTIO_MMIO_QUEUE_NUM_MAX, vq ? VIRTQ_SIZE_MAX : 0);
    store_word(mmio, VIRTIO_MMIO_QUEUE_READY, vq && vq->ready);
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

/* No vCPU waits here while another one waits for a reset: InterruptStatus is read in interrupts. */
static uint64_t bus_read_register(void *opaque, uint64_t off, unsigned size)
{
    struct virtio_mmio *mmio = opaque;
    uint8_t config[8] = {0};

    if (off < VIRTIO_MMIO_CONFIG && !is_register(mmio, off, size))
        return 0;
    if (off < VIRTIO_MMIO_CONFIG_GENERATION)
        return load_word(mmio, off);
    /* The generation and what follows it: nobody sees half of a change here. */
    if (!range_fits(off, size, VIRTIO_MMIO_LEN))
        return 0;
    pthread_mutex_lock(&mmio->config_lock);
    memcpy(config, mmio->page + off, size);
    pthread_mutex_unlock(&mmio->config_lock);
    return load_le64(config);
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
        clear_bits(mmio, VIRTIO_MMIO_INTERRUPT_STATUS, (uint32_t)value);
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
    show_selected(mmio);
    show_config(mmio, false); /* features that were agreed on can change it, too */
    pthread_mutex_unlock(&mmio->lock);
}

const struct bus_ops virtio_mmio_bus_ops = {
    .read = bus_read_register,
    .write = bus_write_register,
};

/* Pages of their own, so that the guest can have them in its memory. */
static int make_page(struct virtio_mmio *mmio)
{
    void *page =
        mmap(NULL, VIRTIO_MMIO_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return -errno;
    mmio->page = page;
    show_identity(mmio);
    show_selected(mmio);
    show_config(mmio, false);
    return 0;
}

int virtio_mmio_new(struct virtio_dev *dev, struct irq *irq, struct virtio_mmio **ret_mmio)
{
    struct virtio_mmio *mmio;
    int r;

    mmio = calloc(1, sizeof(*mmio));
    if (!mmio)
        return -ENOMEM;
    mmio->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mmio->ack_fd < 0) {
        r = -errno;
        goto free_mmio;
    }
    mmio->transport = (struct virtio_transport){
        .notify_used = notify_used,
        .notify_config = notify_config,
        .needs_reset = needs_reset,
    };
    mmio->dev = dev;
    mmio->irq = irq;
    pthread_mutex_init(&mmio->lock, NULL);
    pthread_mutex_init(&mmio->config_lock, NULL);
    r = make_page(mmio);
    if (r < 0)
        goto destroy_locks;
    dev->transport = &mmio->transport;
    *ret_mmio = mmio;
    return 0;

destroy_locks:
    pthread_mutex_destroy(&mmio->config_lock);
    pthread_mutex_destroy(&mmio->lock);
    close(mmio->ack_fd);
free_mmio:
    free(mmio);
    return r;
}

void virtio_mmio_stop(struct virtio_mmio *mmio)
{
    reset(mmio);
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
    if (!mmio)
        return;
    reset(mmio);
    mmio->dev->ops->free(mmio->dev);
    munmap(mmio->page, VIRTIO_MMIO_LEN);
    pthread_mutex_destroy(&mmio->config_lock);
    pthread_mutex_destroy(&mmio->lock);
    close(mmio->ack_fd);
    free(mmio);
}

void *virtio_mmio_page(const struct virtio_mmio *mmio)
{
    return mmio->page;
}

int virtio_mmio_ack_fd(const struct virtio_mmio *mmio)
{
    return mmio->ack_fd;
}
