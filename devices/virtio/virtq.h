/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7).
 *
 * Everything that the rings and descriptors say comes from the guest, which may change it at any
 * time: each value is copied once, checked, and the copy is used. A ring that breaks the rules
 * makes virtq_pop fail with -EPROTO; the device then asks for a reset and leaves the queue alone.
 *
 * The transport owns a queue and its addresses until the device starts it; from then on the
 * device's I/O thread alone calls in, until the device stopped it. No locks.
 *
 * What a device does when it is kicked:
 *
 *     do {
 *         virtq_disable_kicks(vq);
 *         while ((r = virtq_pop(vq, &chain)) > 0)
 *             … virtq_push(vq, chain.head, written), now or later …
 *     } while (r == 0 && virtq_enable_kicks(vq));
 *     if (virtq_publish(vq))
 *         … interrupt …
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTQ_H
#define MINIVMM_DEVICES_VIRTIO_VIRTQ_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "memory/guest_mem.h"

#define VIRTQ_SIZE_MAX 1024u /* the specification allows 32768 (2.7) */

/*
 * Most buffers in one chain: a direct chain cannot exceed the queue size, and an indirect table
 * must not (2.7.5.3.1). Drivers that make tables longer than their queue exist, so the bound is
 * the largest queue, whatever this queue's size.
 */
#define VIRTQ_CHAIN_MAX VIRTQ_SIZE_MAX

/* Size of each ring in bytes (2.7). The event index is there even when it is not negotiated. */
#define VIRTQ_DESC_BYTES(size) (16ul * (size))
#define VIRTQ_AVAIL_BYTES(size) (6ul + 2ul * (size))
#define VIRTQ_USED_BYTES(size) (6ul + 8ul * (size))

struct virtq {
    /* What the driver asked for through the transport's registers. */
    uint16_t size;
    uint64_t desc_gpa;
    uint64_t avail_gpa;
    uint64_t used_gpa;

    /* Set by virtq_enable, constant while `ready`. */
    bool ready;
    const struct guest_mem *mem;
    const struct vring_desc *desc;
    const struct vring_avail *avail;
    struct vring_used *used;

    /* Set by virtq_start; owner from then on: the device's I/O thread. */
    bool indirect;           /* VIRTIO_F_INDIRECT_DESC was negotiated */
    bool event_idx;          /* VIRTIO_F_EVENT_IDX was negotiated */
    uint16_t next_avail;     /* position of the next chain to pop */
    uint16_t avail_idx;      /* the driver's index, as last read */
    uint16_t next_used;      /* position of the next used element */
    uint16_t published_used; /* the index that the driver can see */
    uint16_t in_flight;      /* popped and not yet pushed */
};

/*
 * A chain of buffers, translated to host memory: first what the device reads (nout elements), then
 * what it may write (nin elements). Buffers of length 0 are left out.
 */
struct virtq_chain {
    uint16_t head; /* names the chain in virtq_push */
    unsigned nout;
    unsigned nin;
    unsigned ndescs;  /* descriptors that were looked at */
    uint32_t out_len; /* bytes */
    uint32_t in_len;
    struct iovec iov[VIRTQ_CHAIN_MAX];
};

/* Forget everything; the queue is not ready. */
void virtq_reset(struct virtq *vq);

/*
 * The driver set QueueReady: check size, alignment and addresses, and map the rings. Positions
 * start at 0. 0; -EINVAL size or alignment; -EFAULT a ring lies outside RAM.
 */
int virtq_enable(struct virtq *vq, const struct guest_mem *mem) MUST_CHECK;

/* The device starts to use an enabled queue; `features` is what was agreed on. */
void virtq_start(struct virtq *vq, uint64_t features);

/*
 * After virtq_start: go on where somebody else left off who had the queue before, and used its
 * chains in their order. Who it was says where that is, or else the used ring does.
 */
void virtq_go_on_at(struct virtq *vq, uint16_t position);
void virtq_take_over(struct virtq *vq);

/*
 * Take the next chain off the available ring.
 *
 * 1 with *ret_chain filled; 0 if there is none; -EPROTO if the driver broke the rules: nothing was
 * taken, and the queue must not be used any further.
 */
int virtq_pop(struct virtq *vq, struct virtq_chain *ret_chain) MUST_CHECK;

/*
 * Put the chain that was popped last, of those that are in flight, back on the ring: the next
 * virtq_pop takes it again. None that was popped after it has been pushed.
 */
void virtq_unpop(struct virtq *vq);

/*
 * Give a chain back, exactly once for each that was popped, in any order. `written` counts the
 * bytes written from the start of the writable buffers. The driver sees it after virtq_publish.
 */
void virtq_push(struct virtq *vq, uint16_t head, uint32_t written);

/* Show the driver what was pushed. True if it wants an interrupt for that. */
bool virtq_publish(struct virtq *vq) MUST_CHECK;

/* While the device is busy with the queue, kicks would tell it nothing new. */
void virtq_disable_kicks(struct virtq *vq);

/* Ask for kicks again. True if chains arrived meanwhile, which no kick may announce: pop again. */
bool virtq_enable_kicks(struct virtq *vq) MUST_CHECK;

#endif
