/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a name leads to on the host, found out before it is opened.
 *
 * Opening is not always harmless: a watchdog device arms its timer, a tape winds back, a FIFO waits
 * for its other end. So a name is opened in two steps: O_PATH, which touches nothing, to see what
 * is there and where it lies; then, if that is welcome, the very same file by its descriptor,
 * whatever has become of the name meanwhile.
 */
#ifndef MINIVMM_BASE_HOST_PATH_H
#define MINIVMM_BASE_HOST_PATH_H

#include <sys/stat.h>

#include "base/compiler.h"
#include "base/err.h"

struct host_path {
    const char *name; /* the caller's */
    int fd;           /* O_PATH: good for looking at the file and for host_path_open */
    struct stat st;
};

/* Look at what `name` leads to. 0, to be followed by host_path_done; or -errno. */
int host_path_find(const char *name, struct host_path *ret_path) MUST_CHECK;
void host_path_done(struct host_path *path);

/*
 * Open it, with flags of open(2). A descriptor to be closed; or -errno: -EACCES also for writing to
 * a device that was set read-only.
 */
int host_path_open(const struct host_path *path, int flags) MUST_CHECK;

/*
 * Where it lies, without symbolic links, to be freed. NULL if that cannot be told: without memory,
 * or without /proc.
 */
char *host_path_real(const struct host_path *path);

/* For messages: "a directory", "a FIFO or pipe", … */
const char *host_path_kind(const struct host_path *path);

/*
 * Open a regular file to read it; anything else is refused untouched.
 * 0, or a negative errno with *err filled: it names the file.
 */
int host_path_open_regular(const char *name, int *ret_fd, struct stat *ret_st,
                           struct err *err) MUST_CHECK;

#endif
