/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading files into guest memory, and other fresh memory.
 */
#ifndef MINIVMM_BOOT_LOADER_H
#define MINIVMM_BOOT_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"

struct load {
    const struct boot_file *file;
    uint64_t off;
    size_t len;
    uint8_t *dst;
};

/* Carry out all loads. 0, or a negative errno with *err filled; no thread is left behind. */
int loader_run(const struct load *loads, size_t nloads, struct err *err) MUST_CHECK;

/* Let the host find pages for `len` bytes at once. A hint: it cannot fail. Any thread. */
void loader_populate(uint8_t *dst, size_t len);

#endif
