/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a file goes that is made or written under a name: symbolic links may lead somewhere else,
 * also to where nothing is yet.
 */
#ifndef MINIVMM_BASE_NEW_PATH_H
#define MINIVMM_BASE_NEW_PATH_H

#include "base/compiler.h"

/*
 * The path that `path` leads to, which is no link itself; folders in front of it may be. To be
 * freed. 0, or -errno: -ELOOP if links lead in a circle.
 */
int new_path_find(const char *path, char **ret_path) MUST_CHECK;

#endif
