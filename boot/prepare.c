/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/prepare.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "boot/file.h"
#include "boot/kernel.h"
#include "boot/kernel_cache.h"
#include "boot/plain_kernel.h"

static int open_packed(const char *path, struct boot_file *ret_file, struct kernel_image *ret_image,
                       struct err *err)
{
    int r = boot_file_open(path, ret_file, err);

    if (r < 0)
        return r;
    r = kernel_identify(ret_file, ret_image, err);
    if (r == 0 && ret_image->payload.len == 0)
        r = err_set(err, -ENOTSUP,
                    "%s: expected a bzImage of Linux 5.5 or later that can be relocated: no other "
                    "kernel is unpacked on the host",
                    path);
    if (r < 0)
        boot_file_close(ret_file);
    return r;
}

static int wait_for_key(const struct boot_file *file, struct kernel_cache_key *ret_key,
                        struct err *err)
{
    int r = kernel_cache_key(file, ret_key, err);

    for (unsigned i = 0; r == -EAGAIN && i <= KERNEL_CACHE_SETTLED_S; i++) {
        sleep(1);
        r = kernel_cache_key(file, ret_key, err);
    }
    return r;
}

/* What is in the cache is what the file unpacks to. */
static bool is_same(const struct kernel_cache_entry *entry, const struct plain_kernel *plain,
                    const uint8_t *image)
{
    const struct plain_kernel *kept = &entry->kernel;
    void *map;
    bool same;

    if (kept->image_len != plain->image_len || kept->entry_off != plain->entry_off ||
        kept->table_len != plain->table_len ||
        (kept->table && memcmp(kept->table, plain->table, plain->table_len) != 0))
        return false;
    map = mmap(NULL, kept->image_len, PROT_READ, MAP_PRIVATE, entry->fd, KERNEL_CACHE_IMAGE_OFF);
    if (map == MAP_FAILED)
        return false;
    same = memcmp(map, image, plain->image_len) == 0;
    (void)munmap(map, kept->image_len); /* ours, so it cannot fail */
    return same;
}

static bool is_kept(const char *cache, const struct kernel_cache_key *key, uint64_t image_max,
                    const struct plain_kernel *plain, const uint8_t *image)
{
    struct kernel_cache_entry entry;
    struct err err;
    bool same;

    if (kernel_cache_find(cache, key, image_max, true, &entry, &err) < 0)
        return false;
    same = is_same(&entry, plain, image);
    kernel_cache_entry_close(&entry);
    return same;
}

/* `area` has room for it. */
static int unpack_and_keep(const struct boot_file *file, const struct kernel_image *image,
                           const char *cache, uint8_t *area, bool *ret_new, struct err *err)
{
    const uint8_t *kernel = area + PLAIN_KERNEL_HEAD;
    uint64_t kernel_len = image->segments[0].mem_len;
    struct kernel_cache_key key;
    struct plain_kernel plain;
    int r = wait_for_key(file, &key, err);

    if (r < 0)
        return r;
    r = plain_kernel_unpack(file, &image->payload, area, kernel_len, &plain, err);
    if (r < 0) {
        err_prefix(err, "%s: cannot be unpacked", file->path);
        return r;
    }
    *ret_new = !is_kept(cache, &key, kernel_len, &plain, kernel);
    if (*ret_new)
        r = kernel_cache_store(cache, file, &key, &plain, kernel, err);
    plain_kernel_done(&plain);
    return r;
}

int prepare_kernel(const char *kernel, const char *cache, bool *ret_new, struct err *err)
{
    struct kernel_image image;
    struct boot_file file;
    size_t len;
    void *area;
    int r = open_packed(kernel, &file, &image, err);

    if (r < 0)
        return r;
    len = PLAIN_KERNEL_HEAD + image.segments[0].mem_len;
    area =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) {
        r = err_set_errno(err, -errno, "%s: no memory to unpack it", kernel);
        goto close_file;
    }
    r = unpack_and_keep(&file, &image, cache, area, ret_new, err);
    (void)munmap(area, len); /* ours, so it cannot fail */

close_file:
    boot_file_close(&file);
    return r;
}
