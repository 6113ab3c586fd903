/* SPDX-License-Identifier: Apache-2.0 */
#include "base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/folder_walk.h"

/* The folder's path, with the slash. Without memory of the heap: a signal handler may be here. */
static int split(const char *path, char folder[PATH_MAX], const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + 1 : 0;

    if (len >= PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(folder, len > 0 ? path : "./", len > 0 ? len : 2);
    folder[len > 0 ? len : 2] = '\0';
    *ret_name = path + len;
    return 0;
}

int folder_open(const char *path, const char **ret_name)
{
    char folder[PATH_MAX];
    struct folder_entry entry = {.folder = -1};
    int r = split(path, folder, ret_name);

    if (r == 0)
        r = folder_find(folder, &entry);
    return r < 0 ? r : entry.folder;
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
    char name[PATH_MAX];
    const char *last;
    int r = split(path, name, &last);
    int folder = r < 0 ? -1 : open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (r == 0 && folder < 0)
        r = -errno;
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
