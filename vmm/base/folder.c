#include "vmm/base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* Without memory of the heap: folder_sync may be called by a signal handler. */
static int open_folder(const char *path, int flags, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0;
    char folder[PATH_MAX] = ".";
    int fd;

    if (len >= sizeof(folder))
        return -ENAMETOOLONG;
    if (len > 0) {
        memcpy(folder, path, len);
        folder[len] = '\0';
    }
    fd = open(folder, flags | O_DIRECTORY | O_CLOEXEC);
    *ret_name = path + len;
    return fd < 0 ? -errno : fd;
}

int folder_open(const char *path, const char **ret_name)
{
    return open_folder(path, O_PATH, ret_name);
}

/* ---- durable names --------------------------------------------------------------------------- */

static int repeat(int (*sync)(int fd), int fd)
{
    int r;

    do {
        r = sync(fd) < 0 ? -errno : 0;
    } while (r == -EINTR);
    return r;
}

/* What file systems and kernels answer that have no such operation. */
static bool is_unknown(int r)
{
    return r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP;
}

int folder_sync(const char *path, int fd)
{
    const char *name;
    int folder = open_folder(path, O_RDONLY, &name);
    int r = folder;

    if (folder >= 0) {
        r = repeat(fsync, folder);
        close(folder);
        if (!is_unknown(r))
            return r;
    }
    if (fd >= 0)
        r = repeat(syncfs, fd);
    return is_unknown(r) ? 0 : r;
}
