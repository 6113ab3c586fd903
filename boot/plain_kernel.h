/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel that is unpacked and not relocated: what unpacking gives and what the cache keeps.
 */
#ifndef MINIVMM_BOOT_PLAIN_KERNEL_H
#define MINIVMM_BOOT_PLAIN_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define PLAIN_KERNEL_PAGE 4096u

struct plain_kernel {
    uint64_t image_len; /* whole pages, from the kernel's start; what follows is zero */
    uint64_t entry_off; /* from there; inside the image */
    uint8_t *table;     /* of relocations, in a mapping of its own; NULL: none */
    size_t table_len;
};

/* Debian's are 1.3 MB. */
#define PLAIN_KERNEL_TABLE_MAX (16u << 20)

#endif
