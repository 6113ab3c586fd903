/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel or initrd file: opened once, read at every start of the guest.
 *
 * Only regular files: their size is known before anything is placed, and reading them ends.
 */
#ifndef MINIVMM_BOOT_FILE_H
#define MINIVMM_BOOT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct boot_file {
    char *path;
    int fd;
    uint64_t size; /* when it was opened; never 0 */
};

/* 0, or a negative errno with *err filled: it names the file. */
int boot_file_open(const char *path, struct boot_file *ret_file, struct err *err) MUST_CHECK;
void boot_file_close(struct boot_file *file);

/*
 * Read exactly `len` bytes at `off`. 0; or a negative errno, also when the file has become shorter
 * than that, with *err filled: without the name, which the caller puts in front. Any thread.
 */
int boot_file_read(const struct boot_file *file, uint64_t off, void *buf, size_t len,
                   struct err *err) MUST_CHECK;

#endif
