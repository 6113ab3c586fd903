/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers of an x86-64 vCPU as gdb knows them: names, numbers, and the description in XML
 * that tells gdb about them.
 *
 * Names are gdb's own (features org.gnu.gdb.i386.*), or QEMU's for control registers, which gdb
 * does not know. A register's number is its place in the description, and the data of a `g` packet
 * is all of them in that order, little endian.
 */
#ifndef MINIVMM_GDB_REGISTERS_X86_H
#define MINIVMM_GDB_REGISTERS_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Indexes in gpr[], in gdb's order. */
enum gdb_gpr {
    GDB_RAX,
    GDB_RBX,
    GDB_RCX,
    GDB_RDX,
    GDB_RSI,
    GDB_RDI,
    GDB_RBP,
    GDB_RSP,
    GDB_R8, /* up to R15 */
    GDB_NGPRS = GDB_R8 + 8,
};

enum gdb_segment {
    GDB_CS,
    GDB_SS,
    GDB_DS,
    GDB_ES,
    GDB_FS,
    GDB_GS,
    GDB_NSEGMENTS,
};

/* Values of the x87's control registers; tag is the word with two bits for each register. */
struct gdb_x87 {
    uint32_t control;
    uint32_t status;
    uint32_t tag;
    uint32_t insn_segment;
    uint32_t insn_offset;
    uint32_t operand_segment;
    uint32_t operand_offset;
    uint32_t opcode;
};

struct gdb_registers {
    uint64_t gpr[GDB_NGPRS];
    uint64_t rip;
    uint32_t rflags;
    uint32_t segment[GDB_NSEGMENTS];
    uint8_t st[8][10];
    struct gdb_x87 x87;
    uint8_t xmm[16][16];
    uint32_t mxcsr;
    /* gdb writes -1 when it moves a Linux program elsewhere. A vCPU has no such register. */
    uint64_t orig_rax;
    uint64_t fs_base;
    uint64_t gs_base;
    uint64_t k_gs_base;
    uint64_t cr0;
    uint64_t cr2;
    uint64_t cr3;
    uint64_t cr4;
    uint64_t cr8;
    uint64_t efer;
    uint8_t ymmh[16][16]; /* only with AVX */
};

/* Without pointers: a table of these needs no memory of its own in each process. */
struct gdb_register {
    char name[12];
    char type[16]; /* for gdb */
    char group[8];
    unsigned bits;
    size_t offset; /* in struct gdb_registers */
};

/* All registers, in the order of their numbers. Those of AVX are the last. */
size_t gdb_register_count(bool avx);
const struct gdb_register *gdb_register_at(size_t number);

/* The one with this name; NULL: none. */
const struct gdb_register *gdb_register_find(const char *name, bool avx);

/* The description, constant and followed by NUL; NULL: no memory for it. To be freed. */
char *gdb_describe_registers(bool avx);

#endif
