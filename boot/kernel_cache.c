/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/kernel_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "boot/cache_folder.h"

#define MAGIC "minivmm kernel 2"

/*
 * Entries are dated a little before they were written, in seconds, which any file system can keep.
 */
#define DATED_BACK_S 2

/* The first bytes of an entry, in the byte order of this machine, which is x86. */
struct header {
    char magic[16];
    struct kernel_cache_key key;
    uint64_t image_len;
    uint64_t entry_off;
    uint64_t table_len;
    uint64_t table_checksum;
    int64_t date;      /* the time of its last change */
    uint64_t checksum; /* of what is above */
};

_Static_assert(sizeof(MAGIC) - 1 == sizeof(((struct header *)0)->magic), "without a NUL");
_Static_assert(sizeof(struct header) <= KERNEL_CACHE_IMAGE_OFF, "the header has a page");

static uint64_t header_checksum(const struct header *header)
{
    return crc32(0, (const Bytef *)header, offsetof(struct header, checksum));
}

static uint64_t table_checksum(const uint8_t *table, size_t len)
{
    return table ? crc32(0, table, (uInt)len) : 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool read_boot_id(char id[CACHE_FOLDER_BOOT_ID_LEN + 1])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, id, CACHE_FOLDER_BOOT_ID_LEN);
    close(fd);
    id[CACHE_FOLDER_BOOT_ID_LEN] = '\0';
    return n == CACHE_FOLDER_BOOT_ID_LEN &&
           strspn(id, "0123456789abcdef-") == CACHE_FOLDER_BOOT_ID_LEN;
}

static bool has_settled(const struct timespec *changed)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - changed->tv_sec >= KERNEL_CACHE_SETTLED_S;
}

int kernel_cache_key(const struct boot_file *kernel, struct kernel_cache_key *ret_key,
                     struct err *err)
{
    struct kernel_cache_key key = {0};
    char boot_id[CACHE_FOLDER_BOOT_ID_LEN + 1];
    struct stat st;

    if (!read_boot_id(boot_id))
        return err_set(err, -ENOTSUP, "this boot of the host has no number in /proc");
    if (fstat(kernel->fd, &st) < 0)
        return err_set_errno(err, -errno, "%s", kernel->path);
    if (!has_settled(&st.st_ctim))
        return err_set(err, -EAGAIN, "%s was written to a moment ago", kernel->path);
    (void)snprintf(key.text, sizeof(key.text), "%s-%llx-%llx-%llx-%llx.%lx" CACHE_FOLDER_NAME_END,
                   boot_id, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
                   (unsigned long long)st.st_size, (unsigned long long)st.st_ctim.tv_sec,
                   (unsigned long)st.st_ctim.tv_nsec);
    *ret_key = key;
    return 0;
}

/* ---- finding --------------------------------------------------------------------------------- */

static bool is_private(const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 077) == 0;
}

static bool is_as_left(const struct stat *st, const struct header *header)
{
    return st->st_mtim.tv_sec == header->date && st->st_mtim.tv_nsec == 0 &&
           (uint64_t)st->st_size == KERNEL_CACHE_IMAGE_OFF + header->image_len + header->table_len;
}

static bool is_sound(const struct header *header, const struct kernel_cache_key *key,
                     uint64_t image_max)
{
    return memcmp(header->magic, MAGIC, sizeof(header->magic)) == 0 &&
           header_checksum(header) == header->checksum &&
           memcmp(&header->key, key, sizeof(*key)) == 0 && header->image_len <= image_max &&
           is_aligned(header->image_len, PLAIN_KERNEL_PAGE) &&
           header->entry_off < header->image_len && header->table_len <= PLAIN_KERNEL_TABLE_MAX;
}

static bool read_header(int fd, const struct kernel_cache_key *key, uint64_t image_max,
                        struct header *header)
{
    struct stat st;

    return fstat(fd, &st) == 0 && is_private(&st) &&
           pread(fd, header, sizeof(*header), 0) == (ssize_t)sizeof(*header) &&
           is_sound(header, key, image_max) && is_as_left(&st, header);
}

/* Mapped rather than read: a page cache that several VMs share. */
static bool map_table(int fd, const struct header *header, struct plain_kernel *kernel)
{
    void *table = mmap(NULL, header->table_len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd,
                       (off_t)(KERNEL_CACHE_IMAGE_OFF + header->image_len));

    if (table == MAP_FAILED)
        return false;
    if (table_checksum(table, header->table_len) != header->table_checksum) {
        (void)munmap(table, header->table_len); /* ours, so it cannot fail */
        return false;
    }
    kernel->table = table;
    kernel->table_len = header->table_len;
    return true;
}

static bool read_entry(int fd, const struct kernel_cache_key *key, uint64_t image_max,
                       bool want_table, struct kernel_cache_entry *ret_entry)
{
    struct header header;
    struct plain_kernel kernel = {0};

    if (!read_header(fd, key, image_max, &header))
        return false;
    kernel.image_len = header.image_len;
    kernel.entry_off = header.entry_off;
    if (want_table && header.table_len > 0 && !map_table(fd, &header, &kernel))
        return false;
    *ret_entry = (struct kernel_cache_entry){.fd = fd, .kernel = kernel};
    return true;
}

int kernel_cache_find(const char *dir, const struct kernel_cache_key *key, uint64_t image_max,
                      bool want_table, struct kernel_cache_entry *ret_entry, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int folder = cache_folder_open(dir, err);
    bool good;
    int fd, r;

    if (folder < 0)
        return folder;
    fd = openat(folder, key->text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    r = fd < 0 ? err_set_errno(err, -errno, "%s/%s", dir, key->text) : 0;
    close(folder);
    if (r < 0)
        return r;
    good = read_entry(fd, key, image_max, want_table, ret_entry);
    trace_span("check the kernel in the cache", begin_ns);
    if (good) {
        cache_folder_note_use(fd);
        return 0;
    }
    close(fd);
    return err_set(err, -EINVAL, "%s/%s: it is not as this program leaves its entries", dir,
                   key->text);
}

void kernel_cache_entry_close(struct kernel_cache_entry *entry)
{
    if (entry->kernel.table)
        (void)munmap(entry->kernel.table, entry->kernel.table_len); /* ours, so it cannot fail */
    close(entry->fd);
}

/* ---- making ---------------------------------------------------------------------------------- */

static int write_all(int fd, const void *data, size_t len, uint64_t off)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        from += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* All at once: it is faster, and a file system that is full says so before anything is written. */
static int find_space(int fd, uint64_t len)
{
    while (fallocate(fd, 0, 0, (off_t)len) < 0) {
        if (errno == EOPNOTSUPP)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* From then on, whoever writes to it gives it another date. */
static int set_date(int fd, int64_t date)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)date}};

    return futimens(fd, times) < 0 ? -errno : 0;
}

static int write_entry(int fd, const struct kernel_cache_key *key, const struct plain_kernel *plain,
                       const uint8_t *image)
{
    struct timespec now;
    struct header header = {
        .magic = MAGIC,
        .key = *key,
        .image_len = plain->image_len,
        .entry_off = plain->entry_off,
        .table_len = plain->table_len,
        .table_checksum = table_checksum(plain->table, plain->table_len),
    };
    uint64_t table_off = KERNEL_CACHE_IMAGE_OFF + plain->image_len;
    int r = find_space(fd, table_off + plain->table_len);

    clock_gettime(CLOCK_REALTIME, &now);
    header.date = now.tv_sec - DATED_BACK_S;
    header.checksum = header_checksum(&header);
    if (r == 0)
        r = write_all(fd, &header, sizeof(header), 0);
    if (r == 0)
        r = write_all(fd, image, plain->image_len, KERNEL_CACHE_IMAGE_OFF);
    if (r == 0)
        r = write_all(fd, plain->table, plain->table_len, table_off);
    return r == 0 ? set_date(fd, header.date) : r;
}

/* The kernel file is what it was when its bytes were read. */
static int check_same(const struct boot_file *kernel, const struct kernel_cache_key *key,
                      struct err *err)
{
    struct kernel_cache_key now;
    int r = kernel_cache_key(kernel, &now, err);

    if (r == 0 && memcmp(&now, key, sizeof(now)) != 0)
        r = err_set(err, -EBUSY, "%s has changed meanwhile", kernel->path);
    return r;
}

/*
 * Under another name first. An entry with the same name has the same contents, or is no good.
 */
static int make_entry(int folder, const struct boot_file *kernel,
                      const struct kernel_cache_key *key, const struct plain_kernel *plain,
                      const uint8_t *image, struct err *err)
{
    char name[CACHE_FOLDER_NEW_NAME_MAX];
    int fd = cache_folder_create(folder, name, err);
    int r;

    if (fd < 0)
        return fd;
    r = write_entry(fd, key, plain, image);
    if (r < 0)
        (void)err_set_errno(err, r, "cannot write to it");
    if (r == 0)
        r = check_same(kernel, key, err);
    if (r == 0 && renameat(folder, name, folder, key->text) < 0)
        r = err_set_errno(err, -errno, "cannot name a file");
    if (r < 0)
        (void)unlinkat(folder, name, 0);
    close(fd);
    return r;
}

int kernel_cache_store(const char *dir, const struct boot_file *kernel,
                       const struct kernel_cache_key *key, const struct plain_kernel *plain,
                       const uint8_t *image, struct err *err)
{
    const uint64_t begin_ns = trace_begin();
    int folder = cache_folder_make(dir, err);
    int r;

    if (folder < 0)
        return folder;
    cache_folder_make_room(folder);
    r = make_entry(folder, kernel, key, plain, image, err);
    if (r < 0)
        err_prefix(err, "%s", dir);
    close(folder);
    trace_span("keep the unpacked kernel", begin_ns);
    return r;
}
