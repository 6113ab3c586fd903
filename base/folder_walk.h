/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a path link by link. The kernel does the same where fs.protected_symlinks is set, but
 * that is for the host to decide, and it leaves out folders without the sticky bit.
 */
#ifndef MINIVMM_BASE_FOLDER_WALK_H
#define MINIVMM_BASE_FOLDER_WALK_H

#include <limits.h>

#include "base/compiler.h"

/* What to say of -ELOOP, after the path. */
#define FOLDER_LOOP                                                                                \
    "a symbolic link that anybody may have made, or a loop of them, is not followed: expected "    \
    "the file itself"

/* A name in a folder. */
struct folder_entry {
    int folder; /* O_PATH, for the …at() calls: what is done to the name cannot be led elsewhere */
    int nofollow; /* for openat: O_NOFOLLOW, but for a link of /proc that stands for an open file */
    char name[NAME_MAX + 1];
};

/*
 * Where an output goes: the file that `path` leads to, which need not be there yet. The name is
 * then no symbolic link, unless of /proc; it is empty after a slash. A link in a folder that all
 * may write to is not followed anywhere on the way (-ELOOP): somebody may have put it there to make
 * us overwrite a file of ours. 0 or -errno.
 */
int folder_find(const char *path, struct folder_entry *ret_entry) MUST_CHECK;

#endif
