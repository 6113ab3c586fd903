/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places where the guest finds virtio devices: registers, an interrupt line, a kick (ioeventfd)
 * for each queue.
 *
 * Where they are is decided before the devices exist, because the guest's tables say so. A device
 * is then made in two steps: added, with its memory slot; connected, with its interrupt and kicks.
 * When KVM has to wait until no vCPU uses what it had before, and has begun to wait for something
 * else, it takes some 10 ms: a memory slot behind an interrupt or a kick does. So all memory slots
 * come first.
 *
 * There are more places than interrupt lines, and devices share them. All devices of a line raise
 * it by one eventfd: KVM takes what is written to it one after the other, and makes an edge of it
 * that is later than each write. The guest's driver then asks all devices of the line. (With
 * an eventfd each, two edges at the same time could be one, earlier than what the second one did.)
 *
 * Main thread, except where noted.
 */
#ifndef MINIVMM_VIRTIO_SLOTS_H
#define MINIVMM_VIRTIO_SLOTS_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/boot.h"
#include "devices/bus.h"
#include "devices/virtio/virtio.h"
#include "vmm/kvm.h"

struct virtio_slot;

struct virtio_slots {
    struct boot_virtio_mmio *places; /* constant once planned */
    size_t nplaces;
    struct virtio_slot *slots; /* the first nslots places are taken */
    size_t nslots;
};

/* Decide where `n` devices will be. 0, or a negative errno with *err filled. */
int virtio_slots_plan(struct virtio_slots *slots, size_t n, struct err *err) MUST_CHECK;

/*
 * Give `dev` the next place of `mmio`; takes ownership of it, also on failure. At most as many as
 * were planned. 0, or a negative errno with *err filled.
 */
int virtio_slots_add(struct virtio_slots *slots, struct virtio_dev *dev, const struct kvm_vm *vm,
                     struct bus *mmio, struct err *err) MUST_CHECK;

/* The second step, for all devices. 0, or a negative errno with *err filled. */
int virtio_slots_connect(struct virtio_slots *slots, const struct kvm_vm *vm,
                         struct err *err) MUST_CHECK;

/* Stop all devices: no request is in flight afterwards. No vCPU runs any more. Any thread. */
void virtio_slots_stop_devices(struct virtio_slots *slots);

/* Stop and free the devices, later ones first. No vCPU runs any more. */
void virtio_slots_free_devices(struct virtio_slots *slots);

/* Harmless on slots that are all zero. */
void virtio_slots_done(struct virtio_slots *slots);

#endif
