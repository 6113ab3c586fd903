/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacked kernels in files, mapped into guest memory instead of being unpacked again: nothing is
 * copied, and pages that no guest changes are there once for all of them.
 *
 *   | header: key, lengths, checksum | image of the kernel, whole pages | table of relocations |
 *
 * An entry is used only if it was made from this very kernel file (device, inode, size, time of the
 * last change) since the host was booted, belongs to this user, and nobody else may read or write
 * it. That it was made since the boot stands for a checksum of the image: what a power cut leaves
 * behind is never used, and reading all of it at each start would cost more than the cache gains.
 * The header and the table have one. Entries appear under their names when they are complete and
 * never change afterwards, so any number of VMs may use and make them at once.
 *
 * A cache that cannot be used costs time only: nothing here is an error.
 */
#ifndef MINIVMM_BOOT_KERNEL_CACHE_H
#define MINIVMM_BOOT_KERNEL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "boot/file.h"
#include "boot/plain_kernel.h"

/* Older ones are removed when one more is made; as large as the kernels are, 60 MB each. */
#define KERNEL_CACHE_ENTRIES_MAX 8u

/* Where in an entry the image begins. */
#define KERNEL_CACHE_IMAGE_OFF PLAIN_KERNEL_PAGE

/* What says that an entry is of one kernel file and of this boot of the host; also its name. */
struct kernel_cache_key {
    char text[192];
};

/* Before the file is read. False: there can be no entry. */
bool kernel_cache_key(const struct boot_file *kernel, struct kernel_cache_key *ret_key) MUST_CHECK;

/*
 * Look for a kernel in the folder `dir`. True: *ret_fd and ret_kernel->table, if it is not NULL,
 * are the caller's to close and unmap. The image is at most `image_max` bytes.
 */
bool kernel_cache_find(const char *dir, const struct kernel_cache_key *key, uint64_t image_max,
                       struct plain_kernel *ret_kernel, int *ret_fd) MUST_CHECK;

/* Keep what was unpacked of `kernel` and lies at `image`, if its key is still the same. */
void kernel_cache_store(const char *dir, const struct boot_file *kernel,
                        const struct kernel_cache_key *key, const struct plain_kernel *plain,
                        const uint8_t *image);

#endif
