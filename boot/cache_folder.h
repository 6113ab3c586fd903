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

/* As many are kept; as large as the kernels are, some 40 MB each. */
#define CACHE_FOLDER_ENTRIES_MAX 8u

#define CACHE_FOLDER_NEW_NAME_MAX 32u

/* A file that is being written belongs to a maker that lives, so long after it was written to. */
#define CACHE_FOLDER_MAKING_S 60

/* A descriptor of the folder; or a negative errno with *err filled, -ENOENT if there is none. */
int cache_folder_open(const char *dir, struct err *err) MUST_CHECK;

/* The same; made if it is not there, and the one that it is in. */
int cache_folder_make(const char *dir, struct err *err) MUST_CHECK;

/*
 * Remove the entries that were not used for the longest time until there is room for one more, and
 * what makers left behind that were killed. VMs that use an entry keep it.
 */
void cache_folder_make_room(int folder);

/*
 * Make a file for an entry that is being written, to be renamed when it is complete. Returns a
 * descriptor, which says that its maker lives as long as it is open, and its name; or a negative
 * errno with *err filled.
 */
int cache_folder_create(int folder, char ret_name[CACHE_FOLDER_NEW_NAME_MAX],
                        struct err *err) MUST_CHECK;

/* The entry behind this descriptor is used: it is kept for longer. */
void cache_folder_note_use(int entry);

#endif
