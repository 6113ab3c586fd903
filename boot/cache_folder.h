/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of the cache of kernels: what it must be like to be used, and which files in it are
 * the cache's own. Nobody else can put entries into it, and no file of the user's is removed from
 * it, whatever folder he names.
 */
#ifndef MINIVMM_BOOT_CACHE_FOLDER_H
#define MINIVMM_BOOT_CACHE_FOLDER_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

/* Entries are named after the boot of the host in which they were made, and end like this. */
#define CACHE_FOLDER_BOOT_ID_LEN 36u
#define CACHE_FOLDER_NAME_END ".kernel"

/* Older ones are removed when one more is made; as large as the kernels are, 60 MB each. */
#define CACHE_FOLDER_ENTRIES_MAX 8u

#define CACHE_FOLDER_NEW_NAME_MAX 32u

/* A descriptor of the folder; or a negative errno with *err filled, -ENOENT if there is none. */
int cache_folder_open(const char *dir, struct err *err) MUST_CHECK;

/* The same; made if it is not there, and the one that it is in. */
int cache_folder_make(const char *dir, struct err *err) MUST_CHECK;

/* Remove the oldest entries until there is room for one more. VMs that use one of them keep it. */
void cache_folder_make_room(int folder);

/* A name for an entry that is being written; no process that uses the folder has the same. */
int cache_folder_new_name(char ret_name[CACHE_FOLDER_NEW_NAME_MAX], struct err *err) MUST_CHECK;

#endif
