/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can this machine's KVM run a stock kernel? Found out by doing: a guest of a few bytes in 64-bit
 * mode executes the instructions that every stock kernel needs and that a KVM without hardware
 * virtualisation stops at.
 *
 * Exit status: 0 yes; 1 no, 77 no usable /dev/kvm, both with one line of reason on stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"

#define EXIT_NO 1
#define EXIT_NO_KVM 77

/* Real hardware needs microseconds; one instruction at a time, still less than a millisecond. */
#define TIMEOUT_S 10

/* Guest-physical addresses, identity-mapped; the guest code is linked to run at GUEST_CODE. */
#define GUEST_GDT 0x1000u
#define GUEST_IDT 0x2000u
#define GUEST_PML4 0x3000u
#define GUEST_PDPT 0x4000u
#define GUEST_PD 0x5000u
#define GUEST_DATA 0x6000u
#define GUEST_CODE 0x8000u
#define GUEST_STACK 0x10000u
#define GUEST_MEM 0x200000u

#define SEL_CODE 0x08u
#define SEL_DATA 0x10u

/* Above all RAM that such a small guest has, in the hole below 4 GiB. */
#define KVM_IDENTITY_PAGE 0xfffbc000ull
#define KVM_TSS_PAGES 0xfffbd000ul

/*
 * The guest writes the number of the step it is about to take to port STEP_PORT; STEP_DONE after
 * the last. An instruction that gives a wrong result jumps to the hlt. rbx points at GUEST_DATA.
 */
#define STEP_PORT 0x10
enum step { STEP_START, STEP_CMPXCHG16B, STEP_XSAVE, STEP_XRSTOR, STEP_INT3, STEP_DONE };

static const char *const step_names[] = {
    [STEP_START] = "the first instruction",
    [STEP_CMPXCHG16B] = "lock cmpxchg16b",
    [STEP_XSAVE] = "xsave",
    [STEP_XRSTOR] = "xrstor",
    [STEP_INT3] = "int3 through an IDT",
    [STEP_DONE] = "the end",
};

extern const uint8_t guest_start[], guest_breakpoint[], guest_end[];

__asm__(".pushsection .rodata\n"
        "guest_start:\n"
        "    movb $1, %al\n" /* STEP_CMPXCHG16B */
        "    outb %al, $0x10\n"
        "    xorl %eax, %eax\n"
        "    xorl %edx, %edx\n"
        "    movq %rbx, %rsi\n"
        "    movl $0x1234, %ebx\n"
        "    xorl %ecx, %ecx\n"
        "    lock cmpxchg16b (%rsi)\n"
        "    jne 9f\n"
        "    cmpq %rbx, (%rsi)\n"
        "    jne 9f\n"
        "    movq %rsi, %rbx\n"
        "    movb $2, %al\n" /* STEP_XSAVE */
        "    outb %al, $0x10\n"
        "    movl $3, %eax\n" /* x87 and SSE state */
        "    xorl %edx, %edx\n"
        "    xsave 64(%rbx)\n"
        "    movb $3, %al\n" /* STEP_XRSTOR */
        "    outb %al, $0x10\n"
        "    movl $3, %eax\n"
        "    xorl %edx, %edx\n"
        "    xrstor 64(%rbx)\n"
        "    movb $4, %al\n" /* STEP_INT3 */
        "    outb %al, $0x10\n"
        "    int3\n"
        "    movb $5, %al\n" /* STEP_DONE */
        "    outb %al, $0x10\n"
        "9:  hlt\n"
        "    jmp 9b\n"
        "guest_breakpoint:\n"
        "    iretq\n"
        "guest_end:\n"
        ".popsection\n");

static void NORETURN PRINTF_LIKE(2, 3) finish(int status, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    exit(status);
}

static int open_kvm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int version;

    if (kvm < 0)
        finish(EXIT_NO_KVM, "/dev/kvm: %s", strerror(errno));
    version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        finish(EXIT_NO_KVM, "/dev/kvm: API version %d, expected %d", version, KVM_API_VERSION);
    return kvm;
}

static void must(int result, const char *what)
{
    if (result < 0)
        finish(EXIT_NO, "%s: %s", what, strerror(errno));
}

static void put64(uint8_t *mem, uint32_t gpa, uint64_t value)
{
    memcpy(mem + gpa, &value, sizeof(value));
}

static void fill_memory(uint8_t *mem)
{
    uint64_t handler = GUEST_CODE + (uint64_t)(guest_breakpoint - guest_start);

    put64(mem, GUEST_GDT + SEL_CODE, 0x00af9b000000ffffull); /* 64-bit code, ring 0 */
    put64(mem, GUEST_GDT + SEL_DATA, 0x00cf93000000ffffull); /* flat data */

    put64(mem, GUEST_PML4, GUEST_PDPT | 3);
    put64(mem, GUEST_PDPT, GUEST_PD | 3);
    put64(mem, GUEST_PD, 0x83); /* one 2 MiB page */

    /* Vector 3: a present 64-bit interrupt gate, below 64 KiB (Intel SDM 3A, figure 6-8). */
    put64(mem, GUEST_IDT + 3 * 16, handler | (uint64_t)SEL_CODE << 16 | 0x8eull << 40);

    memcpy(mem + GUEST_CODE, guest_start, (size_t)(guest_end - guest_start));
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
    return (struct kvm_segment){
        .selector = selector,
        .limit = 0xffffffff,
        .type = type,
        .present = 1,
        .s = 1,
        .l = code,
        .db = !code,
        .g = 1,
    };
}

static void enter_long_mode(int vcpu)
{
    struct kvm_segment data = segment(SEL_DATA, 3, false);
    struct kvm_regs regs = {.rip = GUEST_CODE, .rsp = GUEST_STACK, .rbx = GUEST_DATA, .rflags = 2};
    struct kvm_sregs sregs;

    must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs = segment(SEL_CODE, 11, true);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.gdt.base = GUEST_GDT;
    sregs.gdt.limit = SEL_DATA + 7;
    sregs.idt.base = GUEST_IDT;
    sregs.idt.limit = 4 * 16 - 1;
    sregs.cr0 = 0x80000033; /* PG, NE, ET, MP, PE */
    sregs.cr3 = GUEST_PML4;
    sregs.cr4 = 0x40620; /* OSXSAVE, OSXMMEXCPT, OSFXSR, PAE */
    sregs.efer = 0x500;  /* LMA, LME */
    must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void set_cpuid(int kvm, int vcpu)
{
    enum { ENTRIES = 256 };
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));

    if (!cpuid)
        finish(EXIT_NO, "out of memory");
    cpuid->nent = ENTRIES;
    must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
    must(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
    free(cpuid);
}

static int create_vcpu(int kvm, uint8_t *mem)
{
    struct kvm_userspace_memory_region slot = {.memory_size = GUEST_MEM,
                                               .userspace_addr = (uintptr_t)mem};
    uint64_t identity = KVM_IDENTITY_PAGE;
    int vm, vcpu;

    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    must(vm, "KVM_CREATE_VM");
    must(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity), "KVM_SET_IDENTITY_MAP_ADDR");
    must(ioctl(vm, KVM_SET_TSS_ADDR, KVM_TSS_PAGES), "KVM_SET_TSS_ADDR");
    must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    must(vcpu, "KVM_CREATE_VCPU");
    set_cpuid(kvm, vcpu);
    enter_long_mode(vcpu);
    return vcpu;
}

/* Run until the guest stops; ends the process. */
static void NORETURN run(int vcpu, const struct kvm_run *shared)
{
    enum step step = STEP_START;

    for (;;) {
        const uint8_t *data;

        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                finish(EXIT_NO, "KVM did not get past %s in %d s", step_names[step], TIMEOUT_S);
            finish(EXIT_NO, "KVM_RUN failed at %s: %s", step_names[step], strerror(errno));
        }
        data = (const uint8_t *)shared + shared->io.data_offset;
        switch (shared->exit_reason) {
        case KVM_EXIT_IO:
            if (shared->io.port != STEP_PORT || *data <= step || *data > STEP_DONE)
                finish(EXIT_NO, "KVM went astray after %s", step_names[step]);
            step = *data;
            if (step == STEP_DONE)
                exit(EXIT_SUCCESS);
            break;
        case KVM_EXIT_INTERNAL_ERROR:
            finish(EXIT_NO, "KVM cannot emulate %s (internal error, suberror %u)", step_names[step],
                   shared->internal.suberror);
        case KVM_EXIT_HLT:
            finish(EXIT_NO, "KVM gives a wrong result for %s", step_names[step]);
        default:
            finish(EXIT_NO, "KVM stopped at %s with exit reason %u", step_names[step],
                   shared->exit_reason);
        }
    }
}

static void on_alarm(int signo)
{
}

int main(void)
{
    /* No SA_RESTART: the signal is there to end KVM_RUN. */
    struct sigaction action = {.sa_handler = on_alarm};
    int kvm = open_kvm();
    uint8_t *mem =
        mmap(NULL, GUEST_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_run *shared;
    int size, vcpu;

    if (mem == MAP_FAILED)
        finish(EXIT_NO, "out of memory");
    fill_memory(mem);
    vcpu = create_vcpu(kvm, mem);
    size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    must(size, "KVM_GET_VCPU_MMAP_SIZE");
    shared = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (shared == MAP_FAILED)
        finish(EXIT_NO, "cannot map the vCPU: %s", strerror(errno));

    must(sigaction(SIGALRM, &action, NULL), "sigaction");
    alarm(TIMEOUT_S);
    run(vcpu, shared);
}
