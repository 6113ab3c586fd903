/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From kernel, initrds and command line to a guest that can be entered: files are opened once and
 * loaded at every start of the guest.
 *
 * boot/ writes guest memory only and returns a plan; vmm/arch_x86.c turns the plan into registers.
 */
#ifndef MINIVMM_BOOT_H
#define MINIVMM_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "memory/guest_mem.h"

struct boot_options {
    const char *kernel;          /* path: bzImage or ELF vmlinux */
    const char *kernel_named_by; /* the configuration file that names it; NULL: the user did */
    const char *const *initrds;  /* paths, concatenated in order, each on a 4-byte boundary */
    size_t ninitrds;
    const char *kernel_cache; /* folder for unpacked kernels, made if it is not there; NULL: none */
};

struct boot;

/*
 * Open all files and check the kernel's headers; `options` need not outlive the call. 0, or a
 * negative errno with *err filled.
 */
int boot_open(const struct boot_options *options, struct boot **ret_boot,
              struct err *err) MUST_CHECK;
void boot_close(struct boot *boot); /* NULL is fine */

/* Is the kernel a bzImage, as which only Linux comes? */
bool boot_is_bzimage(const struct boot *boot);

/* The descriptor of the kernel (0) or of initrd i - 1; -1 after the last one. */
int boot_file_fd(const struct boot *boot, size_t i);

/* What the guest is told about the machine, by ACPI, or MP table and command line. */
struct boot_virtio_mmio {
    uint64_t gpa;
    uint64_t len;
    uint32_t gsi;
};

struct boot_machine {
    unsigned ncpus; /* APIC IDs 0 to ncpus - 1 */
    bool acpi;      /* false: MP table, and virtio_mmio.device= in front of the command line */
    const struct boot_virtio_mmio *virtio;
    size_t nvirtio;
    bool rtc;            /* there is a clock */
    bool kaslr;          /* false: "nokaslr" in front of the command line */
    const char *cmdline; /* checked against the kernel's own limit */
};

enum boot_entry {
    BOOT_ENTRY_LINUX64, /* 64-bit mode, paging on, rsi = zero page (Linux x86 boot protocol) */
    BOOT_ENTRY_PVH,     /* 32-bit protected mode, paging off, ebx = hvm_start_info */
};

struct boot_plan {
    enum boot_entry entry;
    uint64_t rip;
    uint64_t params_gpa; /* zero page or hvm_start_info */
    uint64_t cr3;        /* LINUX64: page tables that map the first 4 GiB and the kernel */
    uint64_t gdt_gpa;    /* as longmode_fill_gdt leaves it */
    uint16_t gdt_limit;
};

/*
 * Write kernel, initrd, zero page, page tables, GDT, and firmware tables into fresh (zeroed) guest
 * memory. 0, or a negative errno with *err filled.
 */
int boot_load(struct boot *boot, const struct boot_machine *machine, struct guest_mem *mem,
              struct boot_plan *ret_plan, struct err *err) MUST_CHECK;

#endif
