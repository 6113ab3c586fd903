/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch_x86_debug_probe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "memory/bits_x86.h"
#include "memory/layout_x86.h"
#include "vmm/arch_x86_debug.h"

#define PAGE 0x1000u

/*
 * The guest is in 32-bit mode without paging: in real mode an emulating KVM would know int3. It has
 * no IDT, so an int3 at which KVM does not stop ends it.
 */
#define CODE 0x400u
#define CODE_NOP (CODE + 1) /* two of them: the second has a breakpoint */
#define CODE_BREAK (CODE + 2)
#define CODE_STORE (CODE + 3) /* its data are watched */
#define DATA 0x780u

static const uint8_t code[] = {
    0xcc,                         /* int3 */
    0x90,                         /* CODE_NOP: nop */
    0x90,                         /* CODE_BREAK: nop */
    0xa2, 0x80, 0x07, 0x00, 0x00, /* CODE_STORE: movb %al, DATA */
    0x90,                         /* nop */
    0xf4,                         /* hlt */
};

#define SEGMENT_CODE 0xbu /* execute, read, accessed */
#define SEGMENT_DATA 0x3u /* read, write, accessed */

/* A signal may come in between, but not for ever. */
#define TRIES_MAX 100u

struct probe {
    struct kvm_vm vm;
    int vcpu_fd; /* -1: none */
    uint8_t *mem;
    struct kvm_run *run;
    size_t run_len;
    struct arch_debug_want want;
};

static int make_memory(struct probe *probe)
{
    struct kvm_userspace_memory_region slot = {.memory_size = PAGE};
    uint64_t identity_map = X86_IDENTITY_MAP;

    probe->mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe->mem == MAP_FAILED)
        return -errno;
    memcpy(probe->mem + CODE, code, sizeof(code));
    slot.userspace_addr = (uintptr_t)probe->mem;
    if (ioctl(probe->vm.fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
        ioctl(probe->vm.fd, KVM_SET_TSS_ADDR, (unsigned long)X86_TSS) < 0 ||
        ioctl(probe->vm.fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return -errno;
    return 0;
}

static void make_flat(struct kvm_segment *segment, uint8_t type)
{
    *segment = (struct kvm_segment){
        .limit = UINT32_MAX, .selector = 8, .type = type, .present = 1, .db = 1, .s = 1, .g = 1};
}

static int set_mode(int vcpu_fd)
{
    struct kvm_sregs sregs;

    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    make_flat(&sregs.cs, SEGMENT_CODE);
    make_flat(&sregs.ds, SEGMENT_DATA);
    make_flat(&sregs.es, SEGMENT_DATA);
    make_flat(&sregs.fs, SEGMENT_DATA);
    make_flat(&sregs.gs, SEGMENT_DATA);
    make_flat(&sregs.ss, SEGMENT_DATA);
    sregs.idt.limit = 0;
    sregs.cr0 |= CR0_PE;
    return ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

static int make_vcpu(struct probe *probe)
{
    probe->vcpu_fd = ioctl(probe->vm.fd, KVM_CREATE_VCPU, 0);
    if (probe->vcpu_fd < 0)
        return -errno;
    probe->run = mmap(NULL, probe->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, probe->vcpu_fd, 0);
    return probe->run == MAP_FAILED ? -errno : 0;
}

static int make(const struct kvm *kvm, struct probe *probe, struct err *err)
{
    int r = kvm_vm_create(kvm, &probe->vm, err);

    if (r < 0)
        return r;
    probe->run_len = kvm->vcpu_map_len;
    r = make_memory(probe);
    if (r == 0)
        r = make_vcpu(probe);
    return r < 0 ? err_set_errno(err, r, "--gdb: cannot try what KVM can debug") : 0;
}

static void unmake(struct probe *probe)
{
    if (probe->run != MAP_FAILED)
        munmap(probe->run, probe->run_len);
    if (probe->vcpu_fd >= 0)
        close(probe->vcpu_fd);
    if (probe->mem != MAP_FAILED)
        munmap(probe->mem, PAGE);
    if (probe->vm.fd >= 0)
        kvm_vm_close(&probe->vm);
}

/* Run from `rip` on to the next exit. False: it did not stop for the debugger. */
static bool run_from(struct probe *probe, uint64_t rip, struct arch_debug_exit *ret_exit)
{
    struct kvm_regs regs = {.rip = rip, .rflags = RFLAGS_FIXED};
    int r = -1;

    *ret_exit = (struct arch_debug_exit){.pc = 0};
    if (set_mode(probe->vcpu_fd) < 0 || arch_debug_forget_exception(probe->vcpu_fd) < 0 ||
        ioctl(probe->vcpu_fd, KVM_SET_REGS, &regs) < 0 ||
        arch_debug_apply(probe->vcpu_fd, &probe->want) < 0)
        return false;
    for (unsigned i = 0; r < 0 && i < TRIES_MAX; i++) {
        r = ioctl(probe->vcpu_fd, KVM_RUN, 0);
        if (r < 0 && errno != EINTR && errno != EAGAIN)
            return false;
    }
    if (r < 0 || probe->run->exit_reason != KVM_EXIT_DEBUG)
        return false;
    arch_debug_exit(probe->run, ret_exit);
    return true;
}

/* In front of an int3 that it cannot carry out, KVM has stopped as well. */
static bool stops_at_int3(struct probe *probe)
{
    struct arch_debug_exit exit;
    uint64_t rip;

    if (run_from(probe, CODE, &exit))
        return exit.breakpoint && exit.pc == CODE;
    return probe->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
           arch_debug_linear_rip(probe->vcpu_fd, &rip) == 0 && rip == CODE;
}

static void try_all(struct probe *probe, struct arch_debug_abilities *abilities)
{
    struct arch_debug_exit exit;

    probe->want = (struct arch_debug_want){
        .software = true,
        .nregisters = 2,
        .registers = {{.va = CODE_BREAK, .len = 1}, {.va = DATA, .len = 1}},
        .types = {GDB_BREAK_HARDWARE, GDB_WATCH_WRITE},
    };
    abilities->software = stops_at_int3(probe);
    abilities->hardware =
        run_from(probe, CODE_NOP, &exit) && exit.pc == CODE_BREAK && (exit.registers & 1) != 0;
    abilities->watch = run_from(probe, CODE_STORE, &exit) && (exit.registers & 2) != 0;
}

int arch_debug_probe(const struct kvm *kvm, struct arch_debug_abilities *ret_abilities,
                     struct err *err)
{
    struct probe probe = {.vm.fd = -1, .vcpu_fd = -1, .mem = MAP_FAILED, .run = MAP_FAILED};
    int r;

    if (kvm_check_cap(kvm, KVM_CAP_SET_GUEST_DEBUG) == 0)
        return err_set(err, -ENOSYS, "--gdb: this host's KVM cannot debug guests");
    *ret_abilities = (struct arch_debug_abilities){
        .masks = (kvm_check_cap(kvm, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ) != 0};
    r = make(kvm, &probe, err);
    if (r == 0)
        try_all(&probe, ret_abilities);
    unmake(&probe);
    return r;
}
