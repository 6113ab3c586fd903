/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: the system (/dev/kvm) and one VM with its memory, interrupt lines and kicks.
 *
 * Set-up only, on one thread. What differs between processors is in vmm/arch.h; vCPUs are in
 * vmm/vcpu.h. Nothing outside kvm.c, vcpu.c and arch_*.c issues KVM ioctls.
 */
#ifndef MINIVMM_KVM_H
#define MINIVMM_KVM_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "devices/irq.h"
#include "memory/guest_mem.h"

struct kvm {
    int fd;
    size_t vcpu_map_len; /* of the area shared with each vCPU */
    unsigned max_vcpus;
};

struct kvm_vm {
    const struct kvm *kvm;
    int fd;
};

/* A KVM capability with its name, for messages that name it. */
struct kvm_cap {
    int cap;
    char name[36];
};

#define KVM_CAP_ENTRY(cap)                                                                         \
    {                                                                                              \
        cap, #cap                                                                                  \
    }

/*
 * Open /dev/kvm and check its version and every capability this program cannot do without.
 * 0, or a negative errno with *err filled.
 */
int kvm_open(struct kvm *ret_kvm, struct err *err) MUST_CHECK;
void kvm_close(struct kvm *kvm);

/* The value of a capability; 0 where KVM does not have it. */
int kvm_check_cap(const struct kvm *kvm, int cap);

/* Fails with -ENOSYS and the name of the first of `caps` that KVM does not have. */
int kvm_require_caps(const struct kvm *kvm, const struct kvm_cap *caps, size_t ncaps,
                     struct err *err) MUST_CHECK;

/* `kvm` outlives the VM. */
int kvm_vm_create(const struct kvm *kvm, struct kvm_vm *ret_vm, struct err *err) MUST_CHECK;
void kvm_vm_close(struct kvm_vm *vm);

/* Make guest memory RAM of the VM, which must be closed before the memory is freed. */
int kvm_vm_add_memory(const struct kvm_vm *vm, const struct guest_mem *mem,
                      struct err *err) MUST_CHECK;

/*
 * Let the guest read `len` bytes of this process's memory at `gpa`, whole pages, while its writes
 * there go on to arrive as accesses to a device. `index` tells such areas of a VM apart. 0, or a
 * negative errno with *err filled: -ENOSYS where KVM cannot do it.
 */
int kvm_vm_add_readable(const struct kvm_vm *vm, unsigned index, uint64_t gpa, void *host,
                        size_t len, struct err *err) MUST_CHECK;

/* Let irq_raise(irq) raise the GSI in KVM's interrupt controllers. */
int kvm_vm_add_irq(const struct kvm_vm *vm, const struct irq *irq, struct err *err) MUST_CHECK;

/* Let a guest's 4-byte store of `value` at `gpa` signal `event_fd` without leaving the kernel. */
int kvm_vm_add_kick(const struct kvm_vm *vm, uint64_t gpa, uint32_t value, int event_fd,
                    struct err *err) MUST_CHECK;

#endif
