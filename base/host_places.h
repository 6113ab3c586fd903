/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a file may lie that was not named by the user, but by another file.
 */
#ifndef MINIVMM_BASE_HOST_PLACES_H
#define MINIVMM_BASE_HOST_PLACES_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/host_path.h"

/*
 * Paths without symbolic links: of folders, which stand for all that is in them at any depth, and
 * of files. "/" stands only for the files right in it; otherwise an image in / could name every
 * file.
 */
struct host_places {
    const char *home;         /* the folder of the file that does the naming; NULL: it has none */
    const char *const *paths; /* what the user allowed besides */
    unsigned npaths;
};

/* Is a file with this path, which has no symbolic links in it, at the place? */
bool host_places_is_at(const char *place, const char *path);

/*
 * May the file be opened? 0, or -EPERM with *err filled, which says how the user would allow it.
 */
int host_places_check(const struct host_places *places, const struct host_path *path,
                      struct err *err) MUST_CHECK;

/* The folder of the file, to be freed. NULL: a device, which lies nowhere, or it cannot be told. */
char *host_places_home(const struct host_path *path);

#endif
