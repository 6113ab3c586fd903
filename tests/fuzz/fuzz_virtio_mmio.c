/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does anything to a virtio-blk device: the input is a program of register accesses,
 * writes to guest memory, and waits for the device's thread.
 *
 * Byte 0, bit 0: the device is brought up first, with the ring at RING_GPA. Then instructions of 8
 * bytes: operation, size of the access as a power of two, address (16 bits), value (32 bits).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "devices/virtio/virtio_blk.h"
#include "tests/lib/devices/virtio/virtio_driver.h"

#define MEM_LEN (64 * KIB)
#define DISK_LEN (64 * KIB)
#define RING_GPA 0x1000u
#define RING_SIZE 8u
#define INSTRUCTION_LEN 8u
#define INSTRUCTIONS_MAX 512u

enum { OP_WRITE_REGISTER, OP_READ_REGISTER, OP_WRITE_MEMORY, OP_WAIT, NOPS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Made once: a disk in memory and the thread that owns it. */
static struct loop *loop;
static struct block *disk;
static struct guest_mem *mem;

static void *loop_main(void *arg)
{
    if (loop_run(loop) < 0)
        abort();
    return NULL;
}

static void attach(void *opaque)
{
    if (block_attach(disk, loop, NULL) < 0)
        abort();
}

static void make_world(void)
{
    char path[32];
    const struct block_options options = {
        .path = path,
        .format = BLOCK_FORMAT_RAW,
        .aio = BLOCK_AIO_THREADS,
        .discard = true,
    };
    pthread_t thread;
    int fd = memfd_create("disk", MFD_CLOEXEC);

    log_set_level(LOG_ERROR);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fd < 0 || ftruncate(fd, DISK_LEN) < 0 || block_open(&options, &disk, NULL) < 0)
        abort();
    close(fd);
    mem = driver_mem_new(MEM_LEN);
    if (loop_new(&loop) < 0 || pthread_create(&thread, NULL, loop_main, NULL) != 0)
        abort();
    pthread_detach(thread);
    loop_call(loop, attach, NULL);
}

static void nothing(void *opaque)
{
}

static void execute(struct virtio_mmio *mmio, const uint8_t *instruction)
{
    unsigned size = 1u << (instruction[1] % 4);
    uint16_t addr = load_le16(instruction + 2);
    uint32_t value = load_le32(instruction + 4);
    uint64_t off = min_u64(addr % VIRTIO_MMIO_LEN, VIRTIO_MMIO_LEN - size);

    switch (instruction[0] % NOPS) {
    case OP_WRITE_REGISTER:
        virtio_mmio_bus_ops.write(mmio, off, size, value);
        break;
    case OP_READ_REGISTER:
        (void)virtio_mmio_bus_ops.read(mmio, off, size);
        break;
    case OP_WRITE_MEMORY:
        if (guest_mem_write(mem, addr, &value, sizeof(value)) < 0)
            return; /* the last three bytes of memory */
        break;
    case OP_WAIT:
        loop_call(loop, nothing, NULL);
        break;
    }
}

static void bring_up(struct virtio_mmio *mmio)
{
    struct driver_ring ring;

    driver_ring_init(&ring, mem, RING_GPA, RING_SIZE, true);
    if (!driver_negotiate(mmio, driver_features(mmio)) || !driver_setup_queue(mmio, 0, &ring))
        abort();
    driver_set_driver_ok(mmio);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const label = "disk";
    struct virtio_blk_options options = {.label = &label, .serial = "fuzz", .nqueues = 2};
    struct block_port port;
    struct virtio_mmio *mmio;
    struct virtio_dev *dev;
    struct irq irq;

    if (size == 0)
        return 0;
    if (!loop)
        make_world();
    memset(driver_at(mem, 0, MEM_LEN), 0, MEM_LEN);
    block_port_init(&port, disk, loop);
    options.port = &port;
    if (irq_init(&irq, 5) < 0 || virtio_blk_new(&options, mem, &dev) < 0 ||
        virtio_mmio_new(dev, &irq, &mmio) < 0)
        abort();
    if (data[0] & 1)
        bring_up(mmio);
    for (size_t i = 0; i < INSTRUCTIONS_MAX; i++) {
        if (!range_fits(1 + i * INSTRUCTION_LEN, INSTRUCTION_LEN, size))
            break;
        execute(mmio, data + 1 + i * INSTRUCTION_LEN);
    }
    virtio_mmio_free(mmio);
    if (block_in_flight(disk) != 0)
        abort();
    irq_done(&irq);
    return 0;
}
