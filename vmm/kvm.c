/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KVM_PATH "/dev/kvm"

/* What KVM documents for hosts too old to report KVM_CAP_NR_VCPUS. */
#define KVM_VCPUS_IF_UNKNOWN 4

static const struct kvm_cap required_caps[] = {
    KVM_CAP_ENTRY(KVM_CAP_USER_MEMORY), KVM_CAP_ENTRY(KVM_CAP_IRQCHIP),
    KVM_CAP_ENTRY(KVM_CAP_IRQFD),       KVM_CAP_ENTRY(KVM_CAP_IOEVENTFD),
    KVM_CAP_ENTRY(KVM_CAP_MP_STATE),    KVM_CAP_ENTRY(KVM_CAP_IMMEDIATE_EXIT),
};

static int open_failed(int code, struct err *err)
{
    switch (code) {
    case -ENOENT:
    case -ENODEV:
        return err_set(err, code,
                       KVM_PATH ": no KVM on this machine: load kvm_intel or kvm_amd and enable "
                                "virtualisation in the firmware");
    case -EACCES:
    case -EPERM:
        return err_set(err, code,
                       KVM_PATH ": permission denied: run as root or join the group that owns "
                                "the file (sudo usermod -aG kvm USER, then log in again)");
    default:
        return err_set_errno(err, code, KVM_PATH ": cannot open");
    }
}

int kvm_check_cap(const struct kvm *kvm, int cap)
{
    int value = ioctl(kvm->fd, KVM_CHECK_EXTENSION, cap);

    return value < 0 ? 0 : value;
}

int kvm_require_caps(const struct kvm *kvm, const struct kvm_cap *caps, size_t ncaps,
                     struct err *err)
{
    for (size_t i = 0; i < ncaps; i++)
        if (kvm_check_cap(kvm, caps[i].cap) == 0)
            return err_set(err, -ENOSYS, KVM_PATH ": this kernel's KVM lacks %s", caps[i].name);
    return 0;
}

static unsigned max_vcpus(const struct kvm *kvm)
{
    int max = kvm_check_cap(kvm, KVM_CAP_MAX_VCPUS);

    if (max == 0)
        max = kvm_check_cap(kvm, KVM_CAP_NR_VCPUS);
    return max == 0 ? KVM_VCPUS_IF_UNKNOWN : (unsigned)max;
}

static int check_kvm(struct kvm *kvm, struct err *err)
{
    int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
    int len, r;

    if (version < 0)
        return err_set_errno(err, -errno, KVM_PATH ": KVM_GET_API_VERSION");
    if (version != KVM_API_VERSION)
        return err_set(err, -ENOSYS, KVM_PATH ": API version %d, expected %d", version,
                       KVM_API_VERSION);

    r = kvm_require_caps(kvm, required_caps, ARRAY_SIZE(required_caps), err);
    if (r < 0)
        return r;

    len = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (len < 0)
        return err_set_errno(err, -errno, KVM_PATH ": KVM_GET_VCPU_MMAP_SIZE");
    if ((size_t)len < sizeof(struct kvm_run))
        return err_set(err, -ENOSYS, KVM_PATH ": vCPU area of %d bytes, expected at least %zu", len,
                       sizeof(struct kvm_run));
    kvm->vcpu_map_len = (size_t)len;
    kvm->max_vcpus = max_vcpus(kvm);
    return 0;
}

int kvm_open(struct kvm *ret_kvm, struct err *err)
{
    struct kvm kvm = {.fd = open(KVM_PATH, O_RDWR | O_CLOEXEC)};
    int r;

    if (kvm.fd < 0)
        return open_failed(-errno, err);
    r = check_kvm(&kvm, err);
    if (r < 0) {
        close(kvm.fd);
        return r;
    }
    *ret_kvm = kvm;
    return 0;
}

void kvm_close(struct kvm *kvm)
{
    close(kvm->fd);
}

int kvm_vm_create(const struct kvm *kvm, struct kvm_vm *ret_vm, struct err *err)
{
    int fd;

    /* A signal may interrupt the creation of the VM's threads in the kernel. */
    do
        fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_set_errno(err, -errno, KVM_PATH ": KVM_CREATE_VM");
    *ret_vm = (struct kvm_vm){.kvm = kvm, .fd = fd};
    return 0;
}

void kvm_vm_close(struct kvm_vm *vm)
{
    close(vm->fd);
}

static int set_memory_slot(const struct kvm_vm *vm, const struct kvm_userspace_memory_region *slot,
                           struct err *err)
{
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, slot) < 0)
        return err_set_errno(err, -errno,
                             KVM_PATH ": KVM_SET_USER_MEMORY_REGION for %llu KiB at %#llx",
                             (unsigned long long)(slot->memory_size >> 10),
                             (unsigned long long)slot->guest_phys_addr);
    return 0;
}

int kvm_vm_add_memory(const struct kvm_vm *vm, const struct guest_mem *mem, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < mem->nregions; i++) {
        const struct mem_region *region = &mem->regions[i];
        const struct kvm_userspace_memory_region slot = {
            .slot = (uint32_t)i,
            .guest_phys_addr = region->gpa,
            .memory_size = region->len,
            .userspace_addr = (uintptr_t)region->host,
        };

        r = set_memory_slot(vm, &slot, err);
    }
    return r;
}

int kvm_vm_add_readable(const struct kvm_vm *vm, unsigned index, uint64_t gpa, void *host,
                        size_t len, struct err *err)
{
    const struct kvm_userspace_memory_region slot = {
        .slot = GUEST_MEM_REGIONS_MAX + index, /* RAM has those before */
        .flags = KVM_MEM_READONLY,
        .guest_phys_addr = gpa,
        .memory_size = len,
        .userspace_addr = (uintptr_t)host,
    };

    if (kvm_check_cap(vm->kvm, KVM_CAP_READONLY_MEM) == 0)
        return err_set(err, -ENOSYS, KVM_PATH ": this kernel's KVM lacks KVM_CAP_READONLY_MEM");
    return set_memory_slot(vm, &slot, err);
}

int kvm_vm_add_irq(const struct kvm_vm *vm, const struct irq *irq, struct err *err)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)irq->fd, .gsi = irq->gsi};

    if (ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0)
        return err_set_errno(err, -errno, KVM_PATH ": KVM_IRQFD for GSI %u", irq->gsi);
    return 0;
}

int kvm_vm_add_kick(const struct kvm_vm *vm, uint64_t gpa, uint32_t value, int event_fd,
                    struct err *err)
{
    struct kvm_ioeventfd kick = {
        .datamatch = value,
        .addr = gpa,
        .len = sizeof(value),
        .fd = event_fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };

    if (ioctl(vm->fd, KVM_IOEVENTFD, &kick) < 0)
        return err_set_errno(err, -errno, KVM_PATH ": KVM_IOEVENTFD at %#llx",
                             (unsigned long long)gpa);
    return 0;
}
