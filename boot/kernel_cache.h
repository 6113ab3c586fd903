/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacked kernels in files, mapped into guest memory instead of being unpacked again: pages that
 * no guest changes are there once for all of them. What relocations change is read instead.
 *
 *   | header | image of the kernel, whole pages | table of relocations |
 *
 * An entry is used only if it was made from this very kernel file (device, inode, size, time of the
 * last change) since the host was booted, belongs to this user, nobody else may read or write it,
 * and nobody has written to it since it was complete: it is dated then, and its header has the same
 * date. That stands for a checksum of the image, and the boot for what a power cut may leave
 * behind; to read all of it at each start would cost more than there is to gain. Header and table
 * have checksums. Entries appear under their names when they are complete and never change
 * afterwards, so any number of VMs may use and make them at once.
 */
#ifndef MINIVMM_BOOT_KERNEL_CACHE_H
#define MINIVMM_BOOT_KERNEL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "boot/file.h"
#include "boot/plain_kernel.h"

/* Where in an entry the image begins. */
#define KERNEL_CACHE_IMAGE_OFF PLAIN_KERNEL_PAGE

/* What says that an entry is of one kernel file and of this boot of the host; also its name. */
struct kernel_cache_key {
    char text[192];
};

/*
 * Before the file is read. 0; or a negative errno with *err filled: there can be no entry. -EAGAIN:
 * the file was written to a moment ago, and might be once more without another time of its change.
 */
int kernel_cache_key(const struct boot_file *kernel, struct kernel_cache_key *ret_key,
                     struct err *err) MUST_CHECK;

/* After so many seconds it was not a moment ago. */
#define KERNEL_CACHE_SETTLED_S 2

struct kernel_cache_entry {
    int fd;
    struct plain_kernel kernel; /* without its table unless that was wanted */
};

/*
 * Look for a kernel in the folder `dir`; its image is at most `image_max` bytes. 0, and the entry
 * is the caller's to close; or a negative errno with *err filled: -ENOENT if there is none,
 * anything else if there is one, or a folder, that is not to be used.
 */
int kernel_cache_find(const char *dir, const struct kernel_cache_key *key, uint64_t image_max,
                      bool want_table, struct kernel_cache_entry *ret_entry,
                      struct err *err) MUST_CHECK;
void kernel_cache_entry_close(struct kernel_cache_entry *entry);

/*
 * Keep what was unpacked of `kernel` and lies at `image`, if its key is still the same. 0, or a
 * negative errno with *err filled and nothing kept.
 */
int kernel_cache_store(const char *dir, const struct boot_file *kernel,
                       const struct kernel_cache_key *key, const struct plain_kernel *plain,
                       const uint8_t *image, struct err *err) MUST_CHECK;

#endif
