/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel that is unpacked and not relocated: what a bzImage's payload gives and what the cache
 * keeps.
 */
#ifndef MINIVMM_BOOT_PLAIN_KERNEL_H
#define MINIVMM_BOOT_PLAIN_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"
#include "boot/kernel.h"

#define PLAIN_KERNEL_PAGE 4096u

/*
 * Room in front of the kernel: its first segment lies that far after the start of the ELF file, so
 * unpacking to there puts it and most of what follows in its place at once.
 */
#define PLAIN_KERNEL_HEAD (2u << 20)

struct plain_kernel {
    uint64_t image_len; /* whole pages, from the kernel's start; what follows is zero */
    uint64_t entry_off; /* from there; inside the image */
    uint8_t *table;     /* of relocations, in a mapping of its own; NULL: none */
    size_t table_len;
};

/* Debian's are 1.3 MB. */
#define PLAIN_KERNEL_TABLE_MAX (16u << 20)

/*
 * Unpack a kernel into fresh memory at `area`, a private mapping: PLAIN_KERNEL_HEAD bytes and then
 * its place, `kernel_len` bytes. 0, and all but the kernel is zero; or a negative errno with *err
 * filled, and anything there.
 */
int plain_kernel_unpack(const struct boot_file *file, const struct kernel_payload *payload,
                        uint8_t *area, size_t kernel_len, struct plain_kernel *ret_kernel,
                        struct err *err) MUST_CHECK;
void plain_kernel_done(const struct plain_kernel *kernel);

#endif
