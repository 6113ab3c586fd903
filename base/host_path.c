/* SPDX-License-Identifier: Apache-2.0 */
#include "base/host_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LINK_MAX_LEN (sizeof("/proc/self/fd/") + 3 * sizeof(int))

static void link_of(int fd, char link[LINK_MAX_LEN])
{
    (void)snprintf(link, LINK_MAX_LEN, "/proc/self/fd/%d", fd);
}

int host_path_find(const char *name, struct host_path *ret_path)
{
    struct host_path path = {.name = name, .fd = open(name, O_PATH | O_CLOEXEC)};
    int r;

    if (path.fd < 0)
        return -errno;
    if (fstat(path.fd, &path.st) < 0) {
        r = -errno;
        close(path.fd);
        return r;
    }
    *ret_path = path;
    return 0;
}

void host_path_done(struct host_path *path)
{
    close(path->fd);
}

/* Where /proc is missing: by the name once more, if that is still the same file. */
static int open_by_name(const struct host_path *path, int flags)
{
    struct stat st;
    int fd = open(path->name, flags);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && st.st_dev == path->st.st_dev && st.st_ino == path->st.st_ino)
        return fd;
    close(fd);
    return -ESTALE;
}

/* A device that was set read-only lets itself be opened for writing, and then fails each write. */
static bool is_readonly_device(const struct host_path *path, int fd)
{
    int readonly = 0;

    return S_ISBLK(path->st.st_mode) && ioctl(fd, BLKROGET, &readonly) == 0 && readonly != 0;
}

int host_path_open(const struct host_path *path, int flags)
{
    char link[LINK_MAX_LEN];
    int fd;

    flags |= O_NOCTTY | O_CLOEXEC;
    link_of(path->fd, link);
    fd = open(link, flags);
    if (fd < 0)
        fd = -errno;
    if (fd == -ENOENT)
        fd = open_by_name(path, flags);
    if (fd >= 0 && (flags & O_ACCMODE) != O_RDONLY && is_readonly_device(path, fd)) {
        close(fd);
        return -EACCES;
    }
    return fd;
}

char *host_path_real(const struct host_path *path)
{
    char link[LINK_MAX_LEN];
    char real[PATH_MAX];
    ssize_t len;

    link_of(path->fd, link);
    len = readlink(link, real, sizeof(real));
    /* What lies outside of this process's root has a text that is no path in front. */
    if (len <= 0 || len == sizeof(real) || real[0] != '/')
        return NULL;
    return strndup(real, (size_t)len);
}

const char *host_path_kind(const struct host_path *path)
{
    switch (path->st.st_mode & S_IFMT) {
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFBLK:
        return "a block device";
    case S_IFCHR:
        return "a character device";
    case S_IFIFO:
        return "a FIFO or pipe";
    case S_IFSOCK:
        return "a socket";
    default:
        return "no file";
    }
}

int host_path_open_regular(const char *name, int *ret_fd, struct stat *ret_st, struct err *err)
{
    struct host_path path = {.name = name};
    int r = host_path_find(name, &path);

    if (r == 0 && !S_ISREG(path.st.st_mode)) {
        r = err_set(err, -EINVAL, "%s: %s, expected a regular file", name, host_path_kind(&path));
        host_path_done(&path);
        return r;
    }
    if (r == 0) {
        r = host_path_open(&path, O_RDONLY);
        host_path_done(&path);
    }
    if (r < 0)
        return err_set_errno(err, r, "%s: cannot open", name);
    *ret_fd = r;
    *ret_st = path.st;
    return 0;
}
