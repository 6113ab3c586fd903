/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bzImage unpacks to: an ELF vmlinux and, right after it, its table of relocations. The
 * segments are put where the kernel's own stub would put them: at the distance of their physical
 * addresses from the one that the kernel was linked for.
 */
#ifndef MINIVMM_BOOT_VMLINUX_X86_H
#define MINIVMM_BOOT_VMLINUX_X86_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/kernel.h"

/* The next segment begins after it, in the file and in memory. */
struct vmlinux_segment {
    uint64_t file_off;
    uint64_t file_len;
    uint64_t off; /* from the kernel's start in memory */
};

struct vmlinux {
    struct vmlinux_segment segments[KERNEL_SEGMENTS_MAX];
    size_t nsegments;
    uint64_t entry_off; /* inside a segment */
    uint64_t end_off;   /* of the last segment's bytes in the file; all after it is zero */
    uint64_t elf_len;   /* what follows is the table; at most the length of the image */
};

/*
 * Check an unpacked image of `len` bytes whose kernel is linked for `link_gpa` and may use
 * `kernel_len` bytes. 0, or -EINVAL with *err filled.
 */
int vmlinux_parse(const uint8_t *image, size_t len, uint64_t link_gpa, uint64_t kernel_len,
                  struct vmlinux *ret_vmlinux, struct err *err) MUST_CHECK;

/*
 * Move the segments out of the image of `len` bytes at `image` to the kernel's place at `kernel`,
 * not below it, in the same guest memory, and clear what is left of the image and between them.
 */
void vmlinux_place(const struct vmlinux *vmlinux, uint8_t *image, size_t len, uint8_t *kernel);

#endif
