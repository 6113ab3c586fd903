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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/random.h"

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

/* No process that uses the folder has the same. */
static int choose_name(char ret_name[CACHE_FOLDER_NEW_NAME_MAX], struct err *err)
{
    uint64_t random;

    if (!random_bytes(&random, sizeof(random)))
        return err_set(err, -EAGAIN, "the host has no random numbers yet");
    (void)snprintf(ret_name, CACHE_FOLDER_NEW_NAME_MAX,
                   NEW_NAME_BEGIN "%016" PRIx64 CACHE_FOLDER_NAME_END, random);
    return 0;
}

int cache_folder_create(int folder, char ret_name[CACHE_FOLDER_NEW_NAME_MAX], struct err *err)
{
    int r = choose_name(ret_name, err);
    int fd;

    if (r < 0)
        return r;
    fd = openat(folder, ret_name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(err, -errno, "cannot make a file");
    (void)flock(fd, LOCK_EX | LOCK_NB); /* nobody else has a name so new; else it may be removed */
    return fd;
}

/* Explicitly: most file systems are mounted so that reading changes this time once a day. */
void cache_folder_note_use(int entry)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};

    (void)futimens(entry, times); /* then it is taken for older than it is */
}

/* ---- room ------------------------------------------------------------------------------------ */

static bool is_new_name(const char *name)
{
    size_t begin_len = strlen(NEW_NAME_BEGIN);

    return strncmp(name, NEW_NAME_BEGIN, begin_len) == 0 &&
           strspn(name + begin_len, "0123456789abcdef") == NEW_NAME_DIGITS &&
           strcmp(name + begin_len + NEW_NAME_DIGITS, CACHE_FOLDER_NAME_END) == 0;
}

static bool is_entry_name(const char *name)
{
    const char *end = name + strlen(name) - min_u64(strlen(name), strlen(CACHE_FOLDER_NAME_END));

    return strcmp(end, CACHE_FOLDER_NAME_END) == 0 &&
           strspn(name, "0123456789abcdef-") > CACHE_FOLDER_BOOT_ID_LEN &&
           name[CACHE_FOLDER_BOOT_ID_LEN] == '-';
}

/* Its lock ends with its maker. Only of one that has just been made it may not be there yet. */
static bool is_abandoned(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct timespec now;
    struct stat st;
    bool abandoned;

    if (fd < 0)
        return false;
    clock_gettime(CLOCK_REALTIME, &now);
    abandoned = fstat(fd, &st) == 0 && now.tv_sec - st.st_mtim.tv_sec >= CACHE_FOLDER_MAKING_S &&
                flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return abandoned;
}

static void remove_abandoned(DIR *list)
{
    const struct dirent *file;

    rewinddir(list);
    while ((file = readdir(list)))
        if (is_new_name(file->d_name) && is_abandoned(dirfd(list), file->d_name))
            (void)unlinkat(dirfd(list), file->d_name, 0); /* else the next time */
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* The entry that was not used for the longest time, and how many there are. */
static size_t find_oldest(DIR *list, char oldest[NAME_MAX + 1])
{
    struct timespec when = {0};
    const struct dirent *file;
    struct stat st;
    size_t n = 0;

    rewinddir(list);
    while ((file = readdir(list))) {
        if (!is_entry_name(file->d_name) ||
            fstatat(dirfd(list), file->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (n++ == 0 || is_before(&st.st_atim, &when)) {
            when = st.st_atim;
            (void)snprintf(oldest, NAME_MAX + 1, "%s", file->d_name);
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
    remove_abandoned(list);
    while (find_oldest(list, oldest) >= CACHE_FOLDER_ENTRIES_MAX)
        if (unlinkat(folder, oldest, 0) < 0)
            break;
    closedir(list);
}
