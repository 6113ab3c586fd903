/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2, 5.5): guest memory goes back to the host.
 *
 * The host asks for memory by a target, and the guest names pages that it does without (inflate)
 * or takes back (deflate). Without being asked, the guest reports ranges that are free, which the
 * host may take until they are touched again (free page reporting). It tells statistics when asked.
 *
 * Pages are given back on the loop's thread, so many in a round; nothing wakes while the guest has
 * nothing to say. Memory: the device, and copies of at most four chains that were begun.
 */
#ifndef MINIVMM_DEVICES_VIRTIO_VIRTIO_BALLOON_H
#define MINIVMM_DEVICES_VIRTIO_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/loop.h"
#include "devices/virtio/virtio.h"

/* A page of the balloon, whatever pages the guest has (5.5.6). */
#define VIRTIO_BALLOON_PAGE 4096u

/* Tags of statistics that are kept: those of Linux 7.2, of which older kernels tell the first. */
#define VIRTIO_BALLOON_NSTATS 16u

struct virtio_balloon_stats {
    uint64_t told_ns;                      /* monotonic; 0: the guest has not told any */
    uint32_t known;                        /* bit of each tag that it told */
    uint64_t value[VIRTIO_BALLOON_NSTATS]; /* by tag, VIRTIO_BALLOON_S_… */
};

struct virtio_balloon_options {
    struct loop *loop;
    uint64_t target; /* bytes that the guest shall do without */
    /* The driver said how large the balloon is. On a vCPU thread. */
    void (*resized)(void *opaque);
    /* The device is freed: not to be used any more. On the thread that frees it. */
    void (*freed)(void *opaque);
    void *opaque;
};

/* 0 or -errno. The loop outlives the device. */
int virtio_balloon_new(const struct virtio_balloon_options *options, const struct guest_mem *mem,
                       struct virtio_dev **ret_dev) MUST_CHECK;

/* ---- any thread, until the device is freed --------------------------------------------------- */

/* Bytes that the guest shall do without; what is above guest memory's size asks for all of it. */
void virtio_balloon_set_target(struct virtio_dev *dev, uint64_t target);

/* Bytes that it does without, as it says; at most guest memory's size. */
uint64_t virtio_balloon_size(struct virtio_dev *dev);

/* What the guest told last; and ask it for newer figures, which it tells when it likes. */
void virtio_balloon_get_stats(struct virtio_dev *dev, struct virtio_balloon_stats *ret_stats);
void virtio_balloon_ask_stats(struct virtio_dev *dev);

#endif
