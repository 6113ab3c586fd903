/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/guest/guest.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "devices/acpi_pm.h"
#include "memory/layout_x86.h"

/* Where the parts of the kernel are loaded. */
#define INTERPRETER 0x100000u
#define AP_CODE 0x101000u /* copied below 1 MiB by the guest */
#define IDT 0x102000u
#define VARIABLES 0x103000u
#define STACK_TOP 0x120000u
#define OPS 0x1000000u /* then the texts */

#define IDT_VECTORS 256u
#define BOOT_CS 0x10u /* Linux boot protocol: the GDT the guest starts with */

/* Ring 0, present, 64-bit interrupt gate (Intel SDM 3A, figure 6-8). */
#define GATE_INTERRUPT 0x8e00u

_Static_assert(sizeof(struct guest_op) == 32, "the interpreter steps by 32 bytes");

extern const uint8_t guest_interpreter[], guest_interrupt[], guest_interpreter_end[];
extern const uint8_t guest_ap_code[], guest_ap_code_end[];

/*
 * rbx: next operation; r8: acc. An operation finds a in rdi, b in rcx, c in rdx. The order of the
 * table is that of enum guest_opcode.
 */
__asm__(".pushsection .rodata\n"
        ".code64\n"
        "guest_interpreter:\n"
        "    cli\n"
        "    movl $0x120000, %esp\n" /* STACK_TOP */
        "    lidt idt_pointer(%rip)\n"
        "    movl $0x1000000, %ebx\n" /* OPS */
        "next:\n"
        "    movq (%rbx), %rax\n"
        "    movq 8(%rbx), %rdi\n"
        "    movq 16(%rbx), %rcx\n"
        "    movq 24(%rbx), %rdx\n"
        "    addq $32, %rbx\n"
        "    leaq table(%rip), %rsi\n"
        "    movslq (%rsi,%rax,4), %rax\n"
        "    addq %rsi, %rax\n"
        "    jmp *%rax\n"
        "table:\n"
        "    .long op_halt - table, op_spin - table, op_triple_fault - table, op_jump - table\n"
        "    .long op_out8 - table, op_out16 - table, op_out32 - table\n"
        "    .long op_in8 - table, op_in16 - table, op_in32 - table, op_wait_in8 - table\n"
        "    .long op_st8 - table, op_st16 - table, op_st32 - table, op_st64 - table\n"
        "    .long op_ld8 - table, op_ld16 - table, op_ld32 - table, op_ld64 - table\n"
        "    .long op_st64_acc - table, op_fill_acc - table, op_copy - table, op_add64 - table\n"
        "    .long op_wait16 - table, op_wait_irq - table\n"
        "    .long op_goto - table, op_goto_unless - table\n"
        "    .long op_put_acc - table, op_put - table\n"
        "    .long op_tsc - table, op_wrmsr - table\n"
        "op_halt:\n"
        "    cli\n"
        "    hlt\n"
        "    jmp op_halt\n"
        "op_spin:\n"
        "    jmp op_spin\n"
        "op_triple_fault:\n"
        "    lidt no_idt(%rip)\n"
        "    ud2\n"
        "op_jump:\n"
        "    jmp *%rdi\n"
        "op_out8:\n"
        "    movl %edi, %edx\n"
        "    movl %ecx, %eax\n"
        "    outb %al, %dx\n"
        "    jmp next\n"
        "op_out16:\n"
        "    movl %edi, %edx\n"
        "    movl %ecx, %eax\n"
        "    outw %ax, %dx\n"
        "    jmp next\n"
        "op_out32:\n"
        "    movl %edi, %edx\n"
        "    movl %ecx, %eax\n"
        "    outl %eax, %dx\n"
        "    jmp next\n"
        "op_in8:\n"
        "    movl %edi, %edx\n"
        "    xorl %eax, %eax\n"
        "    inb %dx, %al\n"
        "    movq %rax, %r8\n"
        "    jmp next\n"
        "op_in16:\n"
        "    movl %edi, %edx\n"
        "    xorl %eax, %eax\n"
        "    inw %dx, %ax\n"
        "    movq %rax, %r8\n"
        "    jmp next\n"
        "op_in32:\n"
        "    movl %edi, %edx\n"
        "    inl %dx, %eax\n"
        "    movl %eax, %r8d\n"
        "    jmp next\n"
        "op_wait_in8:\n"
        "    movl %edi, %edx\n"
        "1:  inb %dx, %al\n"
        "    testb %cl, %al\n"
        "    jz 1b\n"
        "    jmp next\n"
        "op_st8:\n"
        "    movb %cl, (%rdi)\n"
        "    jmp next\n"
        "op_st16:\n"
        "    movw %cx, (%rdi)\n"
        "    jmp next\n"
        "op_st32:\n"
        "    movl %ecx, (%rdi)\n"
        "    jmp next\n"
        "op_st64:\n"
        "    movq %rcx, (%rdi)\n"
        "    jmp next\n"
        "op_ld8:\n"
        "    movzbl (%rdi), %r8d\n"
        "    jmp next\n"
        "op_ld16:\n"
        "    movzwl (%rdi), %r8d\n"
        "    jmp next\n"
        "op_ld32:\n"
        "    movl (%rdi), %r8d\n"
        "    jmp next\n"
        "op_ld64:\n"
        "    movq (%rdi), %r8\n"
        "    jmp next\n"
        "op_st64_acc:\n"
        "    movq %r8, (%rdi)\n"
        "    jmp next\n"
        "op_fill_acc:\n"
        "    movq %r8, %rax\n"
        "    movq %rdx, %rcx\n"
        "    cld\n"
        "    rep stosq\n"
        "    jmp next\n"
        "op_copy:\n"
        "    movq %rcx, %rsi\n"
        "    movq %rdx, %rcx\n"
        "    cld\n"
        "    rep movsb\n"
        "    jmp next\n"
        "op_add64:\n"
        "    addq %rcx, (%rdi)\n"
        "    jmp next\n"
        "op_wait16:\n"
        "    cmpw %cx, (%rdi)\n"
        "    jne op_wait16\n"
        "    jmp next\n"
        "op_wait_irq:\n"
        "    movl $0x103000, %esi\n" /* GUEST_IRQ_COUNT */
        "1:  cmpq %rdi, (%rsi)\n"
        "    jae next\n"
        "    sti\n"
        "    hlt\n"
        "    cli\n"
        "    jmp 1b\n"
        "op_goto:\n"
        "    movq %rdi, %rdx\n"
        "2:  shlq $5, %rdx\n"
        "    leaq 0x1000000(%rdx), %rbx\n" /* OPS */
        "    jmp next\n"
        "op_goto_unless:\n"
        "    cmpq %rcx, (%rdi)\n"
        "    jne 2b\n"
        "    jmp next\n"
        "op_put_acc:\n"
        "    movl $0x3f8, %edx\n"
        "    movq %r8, %rax\n"
        "1:  outb %al, %dx\n"
        "    shrq $8, %rax\n"
        "    decq %rdi\n"
        "    jnz 1b\n"
        "    jmp next\n"
        "op_put:\n"
        "    movl $0x3f8, %edx\n"
        "    movq %rdi, %rsi\n"
        "    cld\n"
        "    rep outsb\n"
        "    jmp next\n"
        "op_tsc:\n"
        "    rdtsc\n"
        "    shlq $32, %rdx\n"
        "    leaq (%rax,%rdx), %r8\n"
        "    jmp next\n"
        "op_wrmsr:\n"
        "    movq %rcx, %rax\n"
        "    movq %rcx, %rdx\n"
        "    shrq $32, %rdx\n"
        "    movl %edi, %ecx\n"
        "    wrmsr\n"
        "    jmp next\n"
        "guest_interrupt:\n"
        "    pushq %rax\n"
        "    movl $0x103000, %eax\n" /* GUEST_IRQ_COUNT */
        "    lock incq (%rax)\n"
        "    movl $0xfee000b0, %eax\n" /* end of interrupt, local APIC */
        "    movl $0, (%rax)\n"
        "    popq %rax\n"
        "    iretq\n"
        "idt_pointer:\n"
        "    .word 4095\n"
        "    .quad 0x102000\n" /* IDT */
        "no_idt:\n"
        "    .word 0\n"
        "    .quad 0\n"
        "guest_interpreter_end:\n"
        ".code16\n"
        "guest_ap_code:\n"
        "    movw $0x1100, %ax\n" /* GUEST_CPU_COUNT_LOW >> 4 */
        "    movw %ax, %ds\n"
        "    lock incw 0\n"
        "1:  hlt\n"
        "    jmp 1b\n"
        "guest_ap_code_end:\n"
        ".code64\n"
        ".popsection\n");

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void *must_realloc(void *old, size_t size)
{
    void *ptr = realloc(old, size);

    if (!ptr)
        die("realloc");
    return ptr;
}

void guest_init(struct guest *guest)
{
    memset(guest, 0, sizeof(*guest));
}

void guest_done(struct guest *guest)
{
    free(guest->ops);
    free(guest->text);
}

size_t guest_op(struct guest *guest, enum guest_opcode opcode, uint64_t a, uint64_t b, uint64_t c)
{
    if (guest->nops == guest->room) {
        guest->room = guest->room ? 2 * guest->room : 64;
        guest->ops = must_realloc(guest->ops, guest->room * sizeof(*guest->ops));
    }
    guest->ops[guest->nops] = (struct guest_op){.opcode = opcode, .a = a, .b = b, .c = c};
    return guest->nops++;
}

/* c of GUEST_PUT: a is an offset into the texts, which lie after the last operation. */
#define PUT_TEXT 1u

void guest_put_text(struct guest *guest, const char *text)
{
    size_t len = strlen(text);

    guest->text = must_realloc(guest->text, guest->text_len + len);
    memcpy(guest->text + guest->text_len, text, len);
    guest_op(guest, GUEST_PUT, guest->text_len, len, PUT_TEXT);
    guest->text_len += len;
}

void guest_power_off(struct guest *guest)
{
    const uint8_t sleep_enable = 1 << 5;

    guest_op(guest, GUEST_OUT8, X86_PORT_ACPI_PM + ACPI_PM_SLEEP_CONTROL,
             ACPI_PM_SLP_TYP_S5 << 2 | sleep_enable, 0);
    guest_op(guest, GUEST_HALT, 0, 0, 0);
}

void guest_reset_acpi(struct guest *guest)
{
    guest_op(guest, GUEST_OUT8, X86_PORT_ACPI_PM + ACPI_PM_RESET, ACPI_PM_RESET_VALUE, 0);
    guest_op(guest, GUEST_HALT, 0, 0, 0);
}

void guest_reset_i8042(struct guest *guest)
{
    guest_op(guest, GUEST_OUT8, X86_PORT_I8042_COMMAND, 0xfe, 0);
    guest_op(guest, GUEST_HALT, 0, 0, 0);
}

void guest_route_irq(struct guest *guest, unsigned gsi, unsigned vector)
{
    const uint32_t ioapic_select = X86_IOAPIC;
    const uint32_t ioapic_window = X86_IOAPIC + 0x10;
    const uint32_t spurious = X86_LAPIC + 0xf0; /* bit 8: APIC on; vector 255 */

    /* Mask the 8259s: the pins below 16 lead there as well, and from there to vectors 0 to 15. */
    guest_op(guest, GUEST_OUT8, 0x21, 0xff, 0);
    guest_op(guest, GUEST_OUT8, 0xa1, 0xff, 0);
    guest_op(guest, GUEST_ST32, spurious, 0x1ff, 0);
    guest_op(guest, GUEST_ST32, ioapic_select, 0x10 + 2 * gsi + 1, 0);
    guest_op(guest, GUEST_ST32, ioapic_window, 0, 0); /* destination: APIC ID 0 */
    guest_op(guest, GUEST_ST32, ioapic_select, 0x10 + 2 * gsi, 0);
    guest_op(guest, GUEST_ST32, ioapic_window, vector, 0); /* fixed, edge, not masked */
}

void guest_start_cpus(struct guest *guest)
{
    const uint32_t command = X86_LAPIC + 0x300;
    const uint32_t all_but_self = 3u << 18;
    const uint32_t assert_level = 1u << 14;

    guest_op(guest, GUEST_ST32, X86_LAPIC + 0xf0, 0x1ff, 0);
    guest_op(guest, GUEST_ST64, GUEST_CPU_COUNT_LOW, 0, 0);
    guest_op(guest, GUEST_COPY, GUEST_AP_START, AP_CODE, guest_ap_code_end - guest_ap_code);
    guest_op(guest, GUEST_ST32, command, all_but_self | assert_level | 5u << 8, 0); /* INIT */
    guest_op(guest, GUEST_ST32, command,
             all_but_self | assert_level | 6u << 8 | GUEST_AP_START >> 12, 0); /* start-up */
}

static void fill_idt(uint8_t *idt)
{
    uint64_t handler = INTERPRETER + (uint64_t)(guest_interrupt - guest_interpreter);

    for (size_t i = GUEST_VECTOR_FIRST; i < IDT_VECTORS; i++) {
        uint8_t *gate = idt + 16 * i;

        store_le16(gate, (uint16_t)handler);
        store_le16(gate + 2, BOOT_CS);
        store_le16(gate + 4, GATE_INTERRUPT);
        store_le16(gate + 6, (uint16_t)(handler >> 16));
        store_le64(gate + 8, handler >> 32);
    }
}

static void write_all(FILE *file, const void *data, size_t len)
{
    if (len > 0 && fwrite(data, len, 1, file) != 1)
        die("kernel file");
}

/* An executable with two segments: the interpreter and its tables; operations and texts. */
static void write_headers(FILE *file, size_t code_len, size_t ops_len)
{
    const size_t start = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    const Elf64_Ehdr ehdr = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_entry = INTERPRETER,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 2,
    };
    const Elf64_Phdr phdrs[] = {
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_W | PF_X,
         .p_offset = start,
         .p_vaddr = INTERPRETER,
         .p_paddr = INTERPRETER,
         .p_filesz = code_len,
         .p_memsz = GUEST_DATA_END - INTERPRETER},
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_W,
         .p_offset = start + code_len,
         .p_vaddr = OPS,
         .p_paddr = OPS,
         .p_filesz = ops_len,
         .p_memsz = ops_len},
    };

    write_all(file, &ehdr, sizeof(ehdr));
    write_all(file, phdrs, sizeof(phdrs));
}

void guest_write_kernel(const struct guest *guest, const char *path)
{
    static uint8_t code[VARIABLES - INTERPRETER];
    size_t ops_len = guest->nops * sizeof(struct guest_op);
    FILE *file = fopen(path, "wb");

    if (!file)
        die(path);
    memcpy(code, guest_interpreter, (size_t)(guest_interpreter_end - guest_interpreter));
    memcpy(code + (AP_CODE - INTERPRETER), guest_ap_code,
           (size_t)(guest_ap_code_end - guest_ap_code));
    fill_idt(code + (IDT - INTERPRETER));

    write_headers(file, sizeof(code), ops_len + guest->text_len);
    write_all(file, code, sizeof(code));
    for (size_t i = 0; i < guest->nops; i++) {
        struct guest_op op = guest->ops[i];

        if (op.opcode == GUEST_PUT && op.c == PUT_TEXT)
            op.a += OPS + ops_len;
        write_all(file, &op, sizeof(op));
    }
    write_all(file, guest->text, guest->text_len);
    if (fclose(file) != 0)
        die(path);
}
