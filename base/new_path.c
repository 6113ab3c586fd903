/* SPDX-License-Identifier: Apache-2.0 */
#include "base/new_path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As many as the kernel follows. */
#define LINKS_MAX 40u

/* The path that the link at `path` names: relative to its folder. 0: it is no link. */
static int follow(const char *path, char **ret_path)
{
    char text[PATH_MAX];
    ssize_t len = readlink(path, text, sizeof(text));
    const char *slash = strrchr(path, '/');
    int folder_len = slash ? (int)(slash - path) + 1 : 0;

    if (len < 0)
        return errno == EINVAL || errno == ENOENT ? 0 : -errno;
    if (len == sizeof(text))
        return -ENAMETOOLONG;
    if (len > 0 && text[0] == '/')
        folder_len = 0;
    if (asprintf(ret_path, "%.*s%.*s", folder_len, path, (int)len, text) < 0)
        return -ENOMEM;
    return 1;
}

int new_path_find(const char *path, char **ret_path)
{
    char *now = strdup(path);
    int r = now ? 1 : -ENOMEM;

    for (unsigned links = 0; r > 0; links++) {
        char *next = NULL;

        r = links > LINKS_MAX ? -ELOOP : follow(now, &next);
        if (next) {
            free(now);
            now = next;
        }
    }
    if (r < 0) {
        free(now);
        return r;
    }
    *ret_path = now;
    return 0;
}
