/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder that a path leads to: names in it.
 */
#ifndef MINIVMM_BASE_FOLDER_H
#define MINIVMM_BASE_FOLDER_H

#include "base/compiler.h"

/*
 * Open the folder of `path`, to which links lead as folder_find says. *ret_name is the last part of
 * `path`, empty after a slash, and may be a link. Returns a descriptor or -errno.
 */
int folder_open(const char *path, const char **ret_name) MUST_CHECK;

/*
 * Make it durable that `path` is, or is no longer, the name of a file. A file's own sync says
 * nothing of its names.
 *
 * `fd`: any file of the same file system, all of which is synced where the folder by itself cannot
 * be: one that may be written but not read, or a file system without such an operation; -1: there
 * is none. Where the file system has neither, the name is as durable as it makes it, and that is
 * no failure. 0 or -errno. Signal handlers may call this.
 */
int folder_sync(const char *path, int fd) MUST_CHECK;

#endif
