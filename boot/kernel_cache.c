/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/kernel_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/trace.h"

#define MAGIC "minivmm kernel 1"
#define BOOT_ID_LEN 36u
#define NAME_END ".kernel"

/* The clock that dates files ticks more often than that. */
#define SETTLED_S 1

/* The first bytes of an entry, in the byte order of this machine, which is x86. */
struct header {
    char magic[16];
    struct kernel_cache_key key;
    uint64_t image_len;
    uint64_t entry_off;
    uint64_t table_len;
    uint64_t checksum; /* of what is above, and of the table */
};

_Static_assert(sizeof(MAGIC) - 1 == sizeof(((struct header *)0)->magic), "without a NUL");
_Static_assert(sizeof(struct header) <= KERNEL_CACHE_IMAGE_OFF, "the header has a page");

static uint64_t checksum(const struct header *header, const uint8_t *table)
{
    uLong sum = crc32(0, (const Bytef *)header, offsetof(struct header, checksum));

    return table ? crc32(sum, table, (uInt)header->table_len) : sum;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool read_boot_id(char id[BOOT_ID_LEN + 1])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, id, BOOT_ID_LEN);
    close(fd);
    id[BOOT_ID_LEN] = '\0';
    return n == BOOT_ID_LEN && !strchr(id, '/');
}

/* A file that was written a moment ago may be written again without another time of its change. */
static bool has_settled(const struct timespec *changed)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - changed->tv_sec > SETTLED_S;
}

bool kernel_cache_key(const struct boot_file *kernel, struct kernel_cache_key *ret_key)
{
    struct kernel_cache_key key = {0};
    char boot_id[BOOT_ID_LEN + 1];
    struct stat st;

    if (!read_boot_id(boot_id) || fstat(kernel->fd, &st) < 0 || !has_settled(&st.st_ctim))
        return false;
    (void)snprintf(key.text, sizeof(key.text), "%s-%llx-%llx-%llx-%llx.%lx" NAME_END, boot_id,
                   (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
                   (unsigned long long)st.st_size, (unsigned long long)st.st_ctim.tv_sec,
                   (unsigned long)st.st_ctim.tv_nsec);
    *ret_key = key;
    return true;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* A folder that nobody else can put entries into. */
static int open_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) == 0)
        return fd;
    log_info("%s: not used as the cache of kernels: others may write to it", dir);
    close(fd);
    return -1;
}

static int open_entry(const char *dir, const struct kernel_cache_key *key)
{
    int folder = open_folder(dir);
    int fd;

    if (folder < 0)
        return -1;
    fd = openat(folder, key->text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    close(folder);
    return fd;
}

static bool read_header(int fd, const struct kernel_cache_key *key, uint64_t image_max,
                        struct header *header)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0 &&
           pread(fd, header, sizeof(*header), 0) == (ssize_t)sizeof(*header) &&
           memcmp(header->magic, MAGIC, sizeof(header->magic)) == 0 &&
           memcmp(&header->key, key, sizeof(*key)) == 0 && header->image_len <= image_max &&
           is_aligned(header->image_len, PLAIN_KERNEL_PAGE) &&
           header->entry_off < header->image_len && header->table_len <= PLAIN_KERNEL_TABLE_MAX &&
           (uint64_t)st.st_size == KERNEL_CACHE_IMAGE_OFF + header->image_len + header->table_len;
}

/* Mapped rather than read: a page cache that several VMs share. NULL where there is none. */
static bool map_table(int fd, const struct header *header, uint8_t **ret_table)
{
    void *table;

    *ret_table = NULL;
    if (header->table_len == 0)
        return true;
    table = mmap(NULL, header->table_len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd,
                 (off_t)(KERNEL_CACHE_IMAGE_OFF + header->image_len));
    if (table == MAP_FAILED)
        return false;
    *ret_table = table;
    return true;
}

static bool read_entry(int fd, const struct kernel_cache_key *key, uint64_t image_max,
                       struct plain_kernel *ret_kernel)
{
    struct header header;
    uint8_t *table;

    if (!read_header(fd, key, image_max, &header) || !map_table(fd, &header, &table))
        return false;
    if (checksum(&header, table) != header.checksum) {
        if (table)
            (void)munmap(table, header.table_len);
        return false;
    }
    *ret_kernel = (struct plain_kernel){
        .image_len = header.image_len,
        .entry_off = header.entry_off,
        .table = table,
        .table_len = header.table_len,
    };
    return true;
}

bool kernel_cache_find(const char *dir, const struct kernel_cache_key *key, uint64_t image_max,
                       struct plain_kernel *ret_kernel, int *ret_fd)
{
    const uint64_t begin_ns = trace_begin();
    int fd = open_entry(dir, key);
    bool good;

    if (fd < 0)
        return false;
    good = read_entry(fd, key, image_max, ret_kernel);
    trace_span("check the kernel in the cache", begin_ns);
    if (!good) {
        log_info("%s/%s: not used: it is not as this program leaves its entries", dir, key->text);
        close(fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* The folder and the one that it is in: ~/.cache may not be there yet. */
static int make_folder(const char *dir)
{
    char *parent = strdup(dir);
    char *slash = parent ? strrchr(parent, '/') : NULL;

    if (slash && slash > parent) {
        *slash = '\0';
        (void)mkdir(parent, 0700);
    }
    free(parent);
    (void)mkdir(dir, 0700);
    return open_folder(dir);
}

static bool is_entry(const char *name)
{
    size_t len = strlen(name);

    return len > strlen(NAME_END) && strcmp(name + len - strlen(NAME_END), NAME_END) == 0;
}

/* The oldest entry, and how many there are. */
static size_t find_oldest(DIR *folder, char oldest[NAME_MAX + 1])
{
    struct timespec when = {0};
    const struct dirent *entry;
    struct stat st;
    size_t n = 0;

    rewinddir(folder);
    while ((entry = readdir(folder))) {
        if (!is_entry(entry->d_name) ||
            fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (n++ == 0 || st.st_mtim.tv_sec < when.tv_sec ||
            (st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec < when.tv_nsec)) {
            when = st.st_mtim;
            (void)snprintf(oldest, NAME_MAX + 1, "%s", entry->d_name);
        }
    }
    return n;
}

/* VMs that have one of them mapped keep it. */
static void make_room(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    char oldest[NAME_MAX + 1];

    if (!folder) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while (find_oldest(folder, oldest) >= KERNEL_CACHE_ENTRIES_MAX)
        if (unlinkat(folder_fd, oldest, 0) < 0)
            break;
    closedir(folder);
}

static bool write_all(int fd, const void *data, size_t len, uint64_t off)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)off);

        if (n <= 0)
            return false;
        from += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_entry(int fd, const struct kernel_cache_key *key,
                        const struct plain_kernel *plain, const uint8_t *image)
{
    struct header header = {
        .magic = MAGIC,
        .key = *key,
        .image_len = plain->image_len,
        .entry_off = plain->entry_off,
        .table_len = plain->table_len,
    };

    header.checksum = checksum(&header, plain->table);
    return write_all(fd, &header, sizeof(header), 0) &&
           write_all(fd, image, plain->image_len, KERNEL_CACHE_IMAGE_OFF) &&
           write_all(fd, plain->table, plain->table_len, KERNEL_CACHE_IMAGE_OFF + plain->image_len);
}

/* The kernel file is what it was when its bytes were read. */
static bool is_same(const struct boot_file *kernel, const struct kernel_cache_key *key)
{
    struct kernel_cache_key now;

    return kernel_cache_key(kernel, &now) && memcmp(&now, key, sizeof(now)) == 0;
}

/*
 * Under another name first, also one of an entry: one that is left behind is removed in its turn.
 * An entry with the same name has the same contents.
 */
static bool make_entry(int folder, const struct boot_file *kernel,
                       const struct kernel_cache_key *key, const struct plain_kernel *plain,
                       const uint8_t *image)
{
    char name[64];
    bool made;
    int fd;

    (void)snprintf(name, sizeof(name), "new-%ld" NAME_END, (long)getpid());
    (void)unlinkat(folder, name, 0); /* of a process that had this number before */
    fd = openat(folder, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    made = write_entry(fd, key, plain, image) && is_same(kernel, key) &&
           renameat(folder, name, folder, key->text) == 0;
    if (!made)
        (void)unlinkat(folder, name, 0);
    close(fd);
    return made;
}

void kernel_cache_store(const char *dir, const struct boot_file *kernel,
                        const struct kernel_cache_key *key, const struct plain_kernel *plain,
                        const uint8_t *image)
{
    const uint64_t begin_ns = trace_begin();
    int folder = make_folder(dir);

    if (folder < 0)
        return;
    make_room(folder);
    if (!make_entry(folder, kernel, key, plain, image))
        log_info("%s: the unpacked kernel is not kept there", dir);
    close(folder);
    trace_span("keep the unpacked kernel", begin_ns);
}
