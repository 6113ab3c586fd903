/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between processor architectures, as the rest of the VMM sees it; what a debugger
 * needs is in arch_x86_debug.h. For x86 it is in arch_x86.c, arch_x86_clock.c and, for what people
 * are shown, arch_x86_show.c.
 *
 * Set-up only, except the clock, what is shown, and what a vCPU says on its own thread when it
 * cannot go on: arch_vcpu_report, arch_has_virtualization.
 */
#ifndef MINIVMM_ARCH_H
#define MINIVMM_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/boot.h"
#include "memory/guest_mem.h"
#include "vmm/kvm.h"

struct kvm_run;

/* Where RAM of `size` bytes lies. Fills `ranges`, returns how many there are. */
#define ARCH_RAM_RANGES_MAX 2
size_t arch_ram_ranges(uint64_t size, struct mem_range ranges[ARCH_RAM_RANGES_MAX]);

/* Registers and interrupt of virtio device `index`; false: there is no room for so many. */
bool arch_virtio_slot(unsigned index, struct boot_virtio_mmio *ret_slot);

/* What all vCPUs of a VM share. */
struct arch_vm;

/*
 * Check what this architecture needs of KVM and give the VM its interrupt controllers, before the
 * first vCPU. `legacy`: the guest has no ACPI and may want the timer of an old PC.
 * 0, or a negative errno with *err filled.
 */
int arch_vm_new(const struct kvm_vm *vm, bool legacy, unsigned ncpus, struct arch_vm **ret_arch,
                struct err *err) MUST_CHECK;
void arch_vm_free(struct arch_vm *arch);

/* Make vCPU `id` a processor of this machine. CPUs but the first wait for the guest's start-up. */
int arch_vcpu_init(const struct arch_vm *arch, int vcpu_fd, unsigned id,
                   struct err *err) MUST_CHECK;

/* Set the registers of the first vCPU as the boot protocol wants them. */
int arch_vcpu_enter(int vcpu_fd, const struct boot_plan *plan, struct err *err) MUST_CHECK;

/* Log the registers of a vCPU that stopped, and the bytes at its instruction pointer. */
void arch_vcpu_report(int vcpu_fd, const struct guest_mem *mem);

/* What the clocks of a guest showed when they were stopped. */
struct arch_clock {
    uint64_t guest_ns;   /* since the guest was started, as KVM tells it */
    uint64_t host_ticks; /* of the host's cycle counter */
};

/*
 * Let guest time stand still from the one call to the other; no vCPU is in the guest meanwhile.
 * 0, or a negative errno with *err filled: the guest will see the time jump.
 */
int arch_clock_stop(const struct kvm_vm *vm, struct arch_clock *ret_clock,
                    struct err *err) MUST_CHECK;
int arch_clock_start(const struct kvm_vm *vm, const struct arch_clock *clock, const int *vcpu_fds,
                     unsigned nvcpus, struct err *err) MUST_CHECK;

/*
 * For people, as QEMU's monitor shows it: registers, where an address leads (0 or -errno), and what
 * virtual memory is mapped, all of a vCPU that is outside the guest; and the interrupts of the
 * board, with the name of each that has one. The guest may run meanwhile.
 */
void arch_vcpu_show_registers(int vcpu_fd, unsigned id, FILE *out);
int arch_vcpu_translate(int vcpu_fd, const struct guest_mem *mem, uint64_t va,
                        uint64_t *ret_gpa) MUST_CHECK;
void arch_vcpu_show_mappings(int vcpu_fd, const struct guest_mem *mem, FILE *out);
void arch_show_interrupts(const struct kvm_vm *vm,
                          const char *(*name_of)(void *opaque, unsigned gsi), void *opaque,
                          FILE *out);

/* Ranges of memory that KVM itself answers. */
void arch_show_own_memory(FILE *out);

/*
 * Can the processor run guests itself? Without that KVM emulates the kernel part of a guest, and
 * not every instruction.
 */
bool arch_has_virtualization(void);

#endif
