/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole way of a guest's request: several queues of a virtio-blk device on a hostile qcow2
 * image (the input: hostile_image.h). The driver keeps to the rules of the rings, so each request
 * has to be answered, once, whatever the image and its host make of it.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop.h"
#include "devices/virtio/virtio_blk.h"
#include "tests/lib/block/hostile_image.h"
#include "tests/lib/devices/virtio/virtio_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NQUEUES 4u
#define RING_SIZE 8u
#define BUFS_MAX 4u
#define DATA_MAX (256ull * BLOCK_SECTOR_SIZE)

/* Guest memory: rings, then for each descriptor that a request may begin with its parts. */
#define RING_GPA(queue) (0x1000ull * (queue))
#define PART_GPA(queue, i) (0x10000ull + 0x100ull * ((queue)*RING_SIZE + (i)))
#define DATA_GPA(queue, i) (0x20000ull + DATA_MAX * ((queue)*RING_SIZE + (i)))
#define MEM_LEN (8 * MIB)

#define HEADER_OFF 0x00u
#define STATUS_OFF 0x20u
#define TABLE_OFF 0x80u

/* A loop that runs on does no more than this for what was submitted before. */
#define ROUNDS_MAX (1u << 20)

/* A step: what to do, on which queue, and how it is described. */
enum {
    OP_READ,
    OP_WRITE,
    OP_FLUSH,
    OP_DISCARD,
    OP_WRITE_ZEROES,
    OP_GET_ID,
    OP_UNKNOWN,
    OP_CONTROL
};
#define STEP_OP(step) ((step)[0] & 7u)
#define STEP_QUEUE(step) ((step)[0] >> 3 & 3u)
#define STEP_SPLIT 0x20u
#define STEP_INDIRECT 0x40u
#define STEP_WAIT 0x80u

struct queue {
    struct driver_ring ring;
    unsigned offered; /* and not answered yet */
};

struct machine {
    struct hostile_image image;
    struct virtio_mmio *mmio;
    struct irq irq;
    uint64_t features; /* that the driver takes */
    struct queue queues[NQUEUES];
    struct block_port port;
};

/* Made once. */
static struct loop *loop;
static struct guest_mem *mem;

static void *loop_main(void *arg)
{
    if (loop_run(loop) < 0)
        abort();
    return NULL;
}

static void make_world(void)
{
    pthread_t thread;

    log_set_level(LOG_ERROR);
    mem = driver_mem_new(MEM_LEN);
    if (loop_new(&loop) < 0 || pthread_create(&thread, NULL, loop_main, NULL) != 0)
        abort();
    pthread_detach(thread);
}

static void attach(void *opaque)
{
    if (block_attach(opaque, loop, NULL) < 0)
        abort();
}

/* Every other guest has limits that it reaches. */
static void set_limits(void *opaque)
{
    struct machine *machine = opaque;
    struct throttle_limits limits;

    throttle_limits_init(&limits);
    limits.kinds[THROTTLE_IOPS].avg = machine->image.nsteps / 2 % 2 ? 2000 : 0;
    block_port_set_limits(&machine->port, &limits);
}

static void detach(void *opaque)
{
    struct machine *machine = opaque;

    if (block_port_in_flight(&machine->port) != 0)
        abort();
    block_port_done(&machine->port);
    (void)block_detach(machine->image.block); /* what the image makes of it is its own business */
}

static void nothing(void *opaque)
{
}

/* ---- the driver ------------------------------------------------------------------------------ */

static void set_up_queue(struct machine *machine, unsigned i)
{
    struct queue *queue = &machine->queues[i];
    bool event_idx = machine->features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);

    queue->offered = 0;
    driver_ring_init(&queue->ring, mem, RING_GPA(i), RING_SIZE, event_idx);
    if (!driver_setup_queue(machine->mmio, i, &queue->ring))
        abort();
}

static void bring_up(struct machine *machine)
{
    machine->features |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
    if (!driver_negotiate(machine->mmio, machine->features & driver_features(machine->mmio)))
        abort();
    for (unsigned i = 0; i < NQUEUES; i++)
        set_up_queue(machine, i);
    driver_set_driver_ok(machine->mmio);
}

static void kick(struct machine *machine, unsigned i)
{
    if (driver_show(&machine->queues[i].ring))
        driver_kick(machine->mmio, i);
}

static void take_answers(struct queue *queue)
{
    struct vring_used_elem elem;

    while (driver_take(&queue->ring, &elem)) {
        if (queue->offered == 0)
            abort();
        queue->offered--;
    }
}

static void wait_for_answers(struct machine *machine, unsigned i)
{
    struct queue *queue = &machine->queues[i];

    kick(machine, i);
    for (unsigned round = 0; queue->offered > 0; round++) {
        if (round == ROUNDS_MAX)
            abort();
        loop_call(loop, nothing, NULL);
        take_answers(queue);
    }
}

static void reset_queue(struct machine *machine, unsigned i)
{
    if (!(machine->features & VIRTIO_FEATURE(VIRTIO_F_RING_RESET)))
        return;
    driver_write32(machine->mmio, VIRTIO_MMIO_QUEUE_SEL, i);
    driver_write32(machine->mmio, 0x0c0, 1); /* QueueReset */
    set_up_queue(machine, i);
}

static void control(struct machine *machine, const uint8_t *step)
{
    switch (step[1] % 4) {
    case 0:
        virtio_mmio_bus_ops.write(machine->mmio, 0x100 + offsetof(struct virtio_blk_config, wce), 1,
                                  step[3]);
        break;
    case 1:
        reset_queue(machine, STEP_QUEUE(step));
        break;
    case 2:
        machine->features = step[3] & 1 ? 0 : UINT64_MAX;
        bring_up(machine);
        break;
    default:
        wait_for_answers(machine, STEP_QUEUE(step));
        break;
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Header and data as the step has them; returns how much data there is, and whether to be read. */
static uint32_t write_header(const struct machine *machine, const uint8_t *step, uint8_t *header,
                             uint8_t *out, bool *ret_reads)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,
                                     VIRTIO_BLK_T_OUT,
                                     VIRTIO_BLK_T_FLUSH,
                                     VIRTIO_BLK_T_DISCARD,
                                     VIRTIO_BLK_T_WRITE_ZEROES,
                                     VIRTIO_BLK_T_GET_ID,
                                     0x1234};
    unsigned op = STEP_OP(step);
    uint64_t sectors = machine->image.block->len / BLOCK_SECTOR_SIZE;
    uint64_t sector = (uint64_t)((unsigned __int128)sectors * load_be16(step + 1) >> 16);
    struct virtio_blk_outhdr head = {.type = htole32(types[op]), .sector = htole64(sector)};
    struct virtio_blk_discard_write_zeroes range = {
        .sector = htole64(sector),
        .num_sectors = htole32(step[3] * 16u),
        .flags = htole32(step[3] & 1 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0)};

    memcpy(header, &head, sizeof(head));
    *ret_reads = op == OP_READ || op == OP_GET_ID;
    switch (op) {
    case OP_READ:
    case OP_WRITE:
        memset(out, step[3], (size_t)(step[3] + 1u) * BLOCK_SECTOR_SIZE);
        return (step[3] + 1u) * BLOCK_SECTOR_SIZE;
    case OP_DISCARD:
    case OP_WRITE_ZEROES:
        memcpy(out, &range, sizeof(range));
        return sizeof(range);
    case OP_GET_ID:
        return 20;
    default:
        return 0;
    }
}

static void request(struct machine *machine, const uint8_t *step)
{
    unsigned i = STEP_QUEUE(step);
    struct queue *queue = &machine->queues[i];
    struct driver_buf bufs[BUFS_MAX];
    unsigned slot, n = 0;
    uint32_t len, first;
    bool reads;

    take_answers(queue);
    if (queue->ring.nfree < BUFS_MAX)
        wait_for_answers(machine, i);
    slot = queue->ring.free[queue->ring.nfree - 1];
    len = write_header(machine, step, driver_at(mem, PART_GPA(i, slot), 0x20),
                       driver_at(mem, DATA_GPA(i, slot), DATA_MAX), &reads);
    first = step[0] & STEP_SPLIT ? len / 3 : 0;
    bufs[n++] = (struct driver_buf){PART_GPA(i, slot) + HEADER_OFF, 16, false};
    if (first > 0)
        bufs[n++] = (struct driver_buf){DATA_GPA(i, slot), first, reads};
    if (len > first)
        bufs[n++] = (struct driver_buf){DATA_GPA(i, slot) + first, len - first, reads};
    bufs[n++] = (struct driver_buf){PART_GPA(i, slot) + STATUS_OFF, 1, true};
    if (step[0] & STEP_INDIRECT && machine->features & VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))
        driver_add_indirect(&queue->ring, PART_GPA(i, slot) + TABLE_OFF, bufs, n);
    else
        driver_add(&queue->ring, bufs, n);
    queue->offered++;
    if (step[0] & STEP_WAIT)
        wait_for_answers(machine, i);
    else
        kick(machine, i);
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void run_steps(struct machine *machine)
{
    for (unsigned i = 0; i < machine->image.nsteps; i++) {
        const uint8_t *step = machine->image.steps + (size_t)i * HOSTILE_STEP_LEN;

        if (STEP_OP(step) == OP_CONTROL)
            control(machine, step);
        else
            request(machine, step);
    }
}

/*
 * A guest that waits for its requests at the end, or a machine that is ended with some in flight.
 */
static void finish(struct machine *machine)
{
    if (machine->image.nsteps % 2 == 0) {
        for (unsigned i = 0; i < NQUEUES; i++)
            wait_for_answers(machine, i);
        return;
    }
    block_port_set_cancel(&machine->port, true);
}

static void run_machine(struct machine *machine)
{
    static const char *const label = "disk";
    const struct virtio_blk_options options = {
        .port = &machine->port, .label = &label, .serial = "fuzz", .nqueues = NQUEUES};
    struct virtio_dev *dev;

    loop_call(loop, attach, machine->image.block);
    block_port_init(&machine->port, machine->image.block, loop);
    loop_call(loop, set_limits, machine);
    if (irq_init(&machine->irq, 5) < 0 || virtio_blk_new(&options, mem, &dev) < 0 ||
        virtio_mmio_new(dev, &machine->irq, &machine->mmio) < 0)
        abort();
    machine->features = UINT64_MAX;
    bring_up(machine);
    run_steps(machine);
    finish(machine);
    virtio_mmio_free(machine->mmio);
    block_port_set_cancel(&machine->port, false);
    irq_done(&machine->irq);
    loop_call(loop, detach, machine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct machine machine;

    if (!mem)
        make_world();
    if (!hostile_image_init(&machine.image, data, size))
        return 0;
    if (hostile_image_open(&machine.image, false))
        run_machine(&machine);
    hostile_image_close(&machine.image);
    hostile_image_done(&machine.image);
    return 0;
}
