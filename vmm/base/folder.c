#include "vmm/base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int folder_open(const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd;

    if (!folder)
        return -ENOMEM;
    fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        fd = -errno;
    free(folder);
    *ret_name = slash ? slash + 1 : path;
    return fd;
}
