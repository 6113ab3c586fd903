/*
 * The folder that a path leads to: names in it.
 */
#ifndef MINIVMM_BASE_FOLDER_H
#define MINIVMM_BASE_FOLDER_H

#include <limits.h>

#include "base/compiler.h"

/* What to say of -ELOOP, behind the path. */
#define FOLDER_LOOP                                                                                \
    "a symbolic link that anybody may have made, or a loop of them, is not followed: expected "    \
    "the "                                                                                         \
    "file itself"

/* A name in a folder. */
struct folder_entry {
    int folder; /* O_PATH, for the …at() calls: what is done to the name cannot be led elsewhere */
    int nofollow; /* for openat: O_NOFOLLOW, but for a link of /proc that stands for an open file */
    char name[NAME_MAX + 1];
};

/*
 * Where an output goes: the file that `path` leads to, which need not be there yet. The name is
 * then no symbolic link, unless of /proc; it is empty behind a slash. A link in a folder where
 * anybody may have put it, for us to write to a file of ours that he chose, is not followed
 * anywhere on the way: -ELOOP. 0 or -errno.
 */
int folder_find(const char *path, struct folder_entry *ret_entry) MUST_CHECK;

/*
 * The same for the folder of `path` alone. *ret_name is the last part of `path`, empty behind a
 * slash, and may be a link. Returns a descriptor or -errno.
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
