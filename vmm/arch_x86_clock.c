/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest time that stands still while a VM is paused.
 *
 * A guest tells the time by kvm-clock or by its TSC. KVM goes on with both while no vCPU runs, so
 * the first is set back to where it was, and the offset of the TSC lowered by the ticks of the host
 * that passed, the same number for all vCPUs, which stay in step. Timers that came due interrupt
 * the guest early, and it arms them again.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "vmm/arch.h"

int arch_clock_stop(const struct kvm_vm *vm, struct arch_clock *ret_clock, struct err *err)
{
    struct kvm_clock_data kvmclock;

    ret_clock->host_ticks = __rdtsc();
    if (ioctl(vm->fd, KVM_GET_CLOCK, &kvmclock) < 0)
        return err_set_errno(err, -errno, "KVM_GET_CLOCK");
    ret_clock->guest_ns = kvmclock.clock;
    return 0;
}

static int take_from_tsc(int vcpu_fd, uint64_t ticks, struct err *err)
{
    int64_t offset;
    const struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&offset,
    };

    if (ioctl(vcpu_fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
        return err_set_errno(err, -errno, "KVM_GET_DEVICE_ATTR of the TSC (Linux 5.16)");
    offset -= (int64_t)ticks;
    if (ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
        return err_set_errno(err, -errno, "KVM_SET_DEVICE_ATTR of the TSC");
    return 0;
}

int arch_clock_start(const struct kvm_vm *vm, const struct arch_clock *clock, const int *vcpu_fds,
                     unsigned nvcpus, struct err *err)
{
    struct kvm_clock_data kvmclock = {.clock = clock->guest_ns};
    uint64_t ticks = __rdtsc() - clock->host_ticks;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < nvcpus; i++)
        r = take_from_tsc(vcpu_fds[i], ticks, err);
    /* After the TSCs, from which kvm-clock is computed; and alike: both stand still, or none. */
    if (r == 0 && ioctl(vm->fd, KVM_SET_CLOCK, &kvmclock) < 0)
        r = err_set_errno(err, -errno, "KVM_SET_CLOCK");
    /* The guest's watchdog is told that it was not its fault. Fails where it has no kvm-clock. */
    for (unsigned i = 0; i < nvcpus; i++)
        (void)!ioctl(vcpu_fds[i], KVM_KVMCLOCK_CTRL, 0);
    return r;
}
