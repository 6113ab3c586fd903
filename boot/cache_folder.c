/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/cache_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"

#define NEW_NAME_BEGIN "new-"
#define NEW_NAME_DIGITS 16u

/* ---- the folder ------------------------------------------------------------------------------ */

/* Another host may remove or change a file there while a guest runs from it. */
static bool is_remote(int folder)
{
    /* As statfs(2) tells them. */
    static const uint32_t types[] = {
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB 2 and 3 */
        0x00c36400, /* Ceph */
        0x5346414f, /* AFS */
        0x01021997, /* 9P */
        0x65735546, /* FUSE */
    };
    struct statfs fs;

    if (fstatfs(folder, &fs) < 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if ((uint32_t)fs.f_type == types[i])
            return true;
    return false;
}

static int check_folder(int folder, const char *dir, struct err *err)
{
    struct stat st;

    if (fstat(folder, &st) < 0)
        return err_set_errno(err, -errno, "%s", dir);
    if (st.st_uid != geteuid())
        return err_set(err, -EPERM, "%s: it belongs to somebody else", dir);
    if ((st.st_mode & 022) != 0)
        return err_set(err, -EPERM, "%s: others may write to it", dir);
    if (is_remote(folder))
        return err_set(err, -EXDEV, "%s: it is not on a file system of this host", dir);
    return 0;
}

int cache_folder_open(const char *dir, struct err *err)
{
    int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (folder < 0)
        return err_set_errno(err, -errno, "%s", dir);
    r = check_folder(folder, dir, err);
    if (r == 0)
        return folder;
    close(folder);
    return r;
}

/* ~/.cache may not be there yet. What cannot be made is not there when it is opened. */
int cache_folder_make(const char *dir, struct err *err)
{
    char *parent = strdup(dir);
    char *slash = parent ? strrchr(parent, '/') : NULL;

    if (slash && slash > parent) {
        *slash = '\0';
        (void)mkdir(parent, 0700);
    }
    free(parent);
    (void)mkdir(dir, 0700);
    return cache_folder_open(dir, err);
}

/* ---- its files ------------------------------------------------------------------------------- */

int cache_folder_new_name(char ret_name[CACHE_FOLDER_NEW_NAME_MAX], struct err *err)
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        return err_set(err, -EAGAIN, "the host has no random numbers yet");
    (void)snprintf(ret_name, CACHE_FOLDER_NEW_NAME_MAX,
                   NEW_NAME_BEGIN "%016" PRIx64 CACHE_FOLDER_NAME_END, random);
    return 0;
}

/* One that is being written or was left behind, or one that is named after its kernel. */
static bool is_own_name(const char *name)
{
    const char *end = name + strlen(name) - min_u64(strlen(name), strlen(CACHE_FOLDER_NAME_END));
    size_t begin_len = strlen(NEW_NAME_BEGIN);

    if (strcmp(end, CACHE_FOLDER_NAME_END) != 0)
        return false;
    if (strncmp(name, NEW_NAME_BEGIN, begin_len) == 0)
        return strspn(name + begin_len, "0123456789abcdef") == NEW_NAME_DIGITS &&
               name + begin_len + NEW_NAME_DIGITS == end;
    return strspn(name, "0123456789abcdef-") > CACHE_FOLDER_BOOT_ID_LEN &&
           name[CACHE_FOLDER_BOOT_ID_LEN] == '-';
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
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
        if (!is_own_name(entry->d_name) ||
            fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (n++ == 0 || is_before(&st.st_mtim, &when)) {
            when = st.st_mtim;
            (void)snprintf(oldest, NAME_MAX + 1, "%s", entry->d_name);
        }
    }
    return n;
}

void cache_folder_make_room(int folder)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    char oldest[NAME_MAX + 1];

    if (!list) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while (find_oldest(list, oldest) >= CACHE_FOLDER_ENTRIES_MAX)
        if (unlinkat(folder, oldest, 0) < 0)
            break;
    closedir(list);
}
