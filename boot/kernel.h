/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel file, told apart by its contents, and what loading it needs to know, whatever its
 * format.
 */
#ifndef MINIVMM_BOOT_KERNEL_H
#define MINIVMM_BOOT_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/boot.h"
#include "boot/file.h"

/* A Linux vmlinux has four or five. */
#define KERNEL_SEGMENTS_MAX 16

/* The place of the setup header in the zero page: 0x1f1 up to edd_mbr_sig_buffer at 0x290. */
#define KERNEL_SETUP_HEADER_MAX (0x290 - 0x1f1)

/* [gpa, gpa + mem_len) is the kernel's; its first file_len bytes come from the file. */
struct kernel_segment {
    uint64_t file_off;
    uint64_t file_len; /* at most mem_len; the file had so many bytes */
    uint64_t gpa;
    uint64_t mem_len; /* more than 0; gpa + mem_len does not overflow */
};

/* A packed vmlinux in a bzImage that can be unpacked without its stub. */
struct kernel_payload {
    uint64_t file_off; /* the file had so many bytes */
    uint64_t len;      /* 0: there is none */
    uint64_t link_gpa; /* what the kernel is linked for */
    uint64_t align;    /* of its place in memory: a power of two, at least 2 MiB */
};

struct kernel_image {
    struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
    size_t nsegments;
    enum boot_entry entry;
    uint64_t entry_gpa;
    uint64_t initrd_limit;         /* the initrd ends at or below this address */
    uint64_t cmdline_max;          /* without the terminating NUL */
    struct kernel_payload payload; /* of segment 0 */

    /* BOOT_ENTRY_LINUX64: the file's own setup header for the zero page; none in an ELF file. */
    uint8_t setup_header[KERNEL_SETUP_HEADER_MAX];
    size_t setup_header_len;
};

/* Find out the format and check all headers. 0, or a negative errno with *err filled. */
int kernel_identify(const struct boot_file *file, struct kernel_image *ret_image,
                    struct err *err) MUST_CHECK;

#endif
