/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare-metal guests for tests: lists of simple operations, carried out in 64-bit mode by an
 * interpreter of a few hundred bytes that is the guest's kernel. A test writes its guest in C:
 *
 *     struct guest guest;
 *
 *     guest_init(&guest);
 *     guest_put_text(&guest, "hello");
 *     guest_op(&guest, GUEST_OUT8, 0x600, 0x34, 0);
 *     guest_write_kernel(&guest, path);
 *
 * The kernel is an ELF file with a 64-bit entry. Addresses are physical, and identity-mapped up to
 * 4 GiB. Errors in here are the test's: they end the process with a message.
 */
#ifndef MINIVMM_TESTS_GUEST_H
#define MINIVMM_TESTS_GUEST_H

#include <stddef.h>
#include <stdint.h>

enum guest_opcode {
    GUEST_HALT, /* hlt for ever, interrupts off */
    GUEST_SPIN, /* loop for ever without leaving the guest */
    GUEST_TRIPLE_FAULT,
    GUEST_JUMP, /* let the processor execute what is at address a */
    GUEST_OUT8, /* port a, value b */
    GUEST_OUT16,
    GUEST_OUT32,
    GUEST_IN8, /* acc = port a */
    GUEST_IN16,
    GUEST_IN32,
    GUEST_WAIT_IN8, /* until port a has any bit of b set */
    GUEST_ST8,      /* memory a = b */
    GUEST_ST16,
    GUEST_ST32,
    GUEST_ST64,
    GUEST_LD8, /* acc = memory a */
    GUEST_LD16,
    GUEST_LD32,
    GUEST_LD64,
    GUEST_ST64_ACC,    /* 8 bytes of memory a = acc */
    GUEST_FILL_ACC,    /* 8 bytes of memory a, c times = acc */
    GUEST_COPY,        /* c bytes from b to a */
    GUEST_ADD64,       /* 8 bytes of memory a += b */
    GUEST_WAIT16,      /* until 2 bytes of memory a equal b */
    GUEST_WAIT_IRQ,    /* hlt until at least a interrupts were taken */
    GUEST_GOTO,        /* operation number a */
    GUEST_GOTO_UNLESS, /* operation number c, unless 8 bytes of memory a equal b */
    GUEST_PUT_ACC,     /* lowest a bytes of acc to the serial port */
    GUEST_PUT,         /* b bytes of memory from a to the serial port, by rep outsb */
    GUEST_TSC,         /* acc = the time stamp counter */
    GUEST_WRMSR,       /* model-specific register a = b */
};

struct guest_op {
    uint64_t opcode;
    uint64_t a;
    uint64_t b;
    uint64_t c;
};

/* Memory that a guest may use for its own purposes. */
#define GUEST_DATA 0x200000u
#define GUEST_DATA_END 0x1000000u

/* Counts interrupts, whatever their vector; and a place for other CPUs to count in. */
#define GUEST_IRQ_COUNT 0x103000u
#define GUEST_CPU_COUNT 0x103008u

/* Vectors from here up to 255 lead to the interrupt handler. */
#define GUEST_VECTOR_FIRST 32u

/* Real-mode code that adds 1 to the 2 bytes at GUEST_CPU_COUNT_LOW; for a start-up IPI. */
#define GUEST_AP_START 0x10000u
#define GUEST_CPU_COUNT_LOW 0x11000u

struct guest {
    struct guest_op *ops;
    size_t nops;
    size_t room;
    uint8_t *text; /* what guest_put_text prints */
    size_t text_len;
};

void guest_init(struct guest *guest);
void guest_done(struct guest *guest);

/* Add an operation; returns its number. */
size_t guest_op(struct guest *guest, enum guest_opcode opcode, uint64_t a, uint64_t b, uint64_t c);

/* Print a text on the serial port. */
void guest_put_text(struct guest *guest, const char *text);

/* Power off and reset by ACPI; reset by the keyboard controller. */
void guest_power_off(struct guest *guest);
void guest_reset_acpi(struct guest *guest);
void guest_reset_i8042(struct guest *guest);

/* Route I/O APIC pin `gsi` to `vector` on the first CPU, edge-triggered; switch the APIC on. */
void guest_route_irq(struct guest *guest, unsigned gsi, unsigned vector);

/* Copy the start-up code for other CPUs to GUEST_AP_START, then start all of them. */
void guest_start_cpus(struct guest *guest);

/* Write the guest as a kernel file. */
void guest_write_kernel(const struct guest *guest, const char *path);

#endif
