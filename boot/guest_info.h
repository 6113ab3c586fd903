/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel is told on entry, in the form of its boot protocol.
 */
#ifndef MINIVMM_BOOT_GUEST_INFO_H
#define MINIVMM_BOOT_GUEST_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/e820.h"

struct guest_info {
    uint64_t cmdline_gpa;
    uint64_t initrd_gpa;
    uint64_t initrd_len;     /* 0: none */
    uint64_t rsdp_gpa;       /* 0: no ACPI */
    uint64_t setup_data_gpa; /* 0: none; PVH has no place for it */
    bool kaslr;              /* it was randomised here */
    struct e820_entry e820[E820_ENTRIES_MAX];
    size_t ne820;
};

#endif
