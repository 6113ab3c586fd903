/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as the guest sees it, from power-on to power-off or reset: memory, KVM VM, devices,
 * the loaded kernel, vCPUs. A reset ends it, and a new one is made of the same parts.
 *
 * The only module that knows all the others. Main thread, except where noted.
 */
#ifndef MINIVMM_MACHINE_H
#define MINIVMM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/loop.h"
#include "boot/boot.h"
#include "devices/bus.h"
#include "devices/chardev.h"
#include "devices/virtio/virtio_blk.h"
#include "vmm/attached/attached.h"
#include "vmm/config/config.h"
#include "vmm/debug.h"
#include "vmm/disk.h"
#include "vmm/kvm.h"

enum machine_end {
    MACHINE_POWER_OFF,
    MACHINE_RESET,
    MACHINE_FAILED, /* KVM or the VMM cannot go on; see machine_failure */
};

enum machine_panic {
    MACHINE_PANICKED,
    MACHINE_CRASH_LOADED, /* a second kernel takes over, to save what the first one leaves */
};

/* What outlives the machine; none of it is owned. */
struct machine_parts {
    const struct config *config;
    const struct kvm *kvm;
    struct boot *boot;
    const char *cmdline;
    struct loop *loop; /* of the main thread */
    struct chardev *serial;
    struct disk *const *disks;
    size_t ndisks;
    struct attached *const *attached; /* devices after the disks, in this order */
    size_t nattached;
    struct debug *debug; /* NULL: nobody debugs the guest */
    /* The guest's life is over: on the main loop, once; call machine_stop then. */
    void (*ended)(const struct machine_parts *parts, enum machine_end how);
    /* The machine is paused, as machine_pause asked for: on the main loop. */
    void (*paused)(const struct machine_parts *parts);
    /* The guest's kernel says that it panicked; on the main loop, at most once for each. */
    void (*panicked)(const struct machine_parts *parts, enum machine_panic panic);
    /*
     * Requests of a disk failed. If one was kept, pause the machine; it is tried again when that
     * goes on. On the main loop.
     */
    void (*disk_failed)(const struct machine_parts *parts, struct disk *disk,
                        const struct virtio_blk_failure *failure);
};

struct machine;
struct vcpu;

/* Put the machine together and load the guest. 0, or a negative errno with *err filled. */
int machine_new(const struct machine_parts *parts, struct machine **ret_machine,
                struct err *err) MUST_CHECK;

/* Let the vCPUs run. On an error some may run already: machine_stop. */
int machine_start(struct machine *machine, struct err *err) MUST_CHECK;

/*
 * Pause: vCPUs stand still and guest time with them, devices rest, disks are flushed, and input
 * waits. Returns at once; parts->paused follows unless the machine is resumed or ends before. Also
 * before machine_start: the guest then does not begin. Harmless if it is paused, or about to be.
 */
void machine_pause(struct machine *machine);

/* Go on, from a pause or from the way into one; harmless if there is none. */
void machine_resume(struct machine *machine);

/* From now on the guest is told of every failure of its disks: it shall come to its end. */
void machine_report_disk_errors(struct machine *machine);

/*
 * Let it end, wherever its vCPUs are; returns at once. From here on it can be looked at, but not
 * paused, resumed, or told anything.
 */
void machine_stop(struct machine *machine);

/*
 * After machine_stop: wait until no vCPU runs and no request of a device is in flight, so that
 * nothing changes the guest's memory any more. That is as long as a disk of the host hangs. Any
 * thread, while the main loop runs or not.
 */
void machine_wait(struct machine *machine);

/* Main thread, after machine_wait, unless it was not started. The disks stay open. */
void machine_free(struct machine *machine);

/* After MACHINE_FAILED. */
const struct err *machine_failure(const struct machine *machine);

/* One of config->ncpus; for what may be done with a vCPU that runs. */
struct vcpu *machine_vcpu(const struct machine *machine, unsigned index);

/* What the guest finds: its memory, ports and registers in memory; constant. */
struct machine_view {
    const struct kvm_vm *vm;
    const struct guest_mem *mem;
    const struct bus *pio;
    const struct bus *mmio;
};

struct machine_view machine_view(const struct machine *machine);

/* Ask the guest to power off; false if there is no button to press. */
bool machine_press_power_button(struct machine *machine);

/* Ask a guest again that has not noticed yet; false if it has. */
bool machine_repeat_power_button(struct machine *machine);

#endif
