/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image that a subcommand is filling, for the case that it never gets done.
 *
 * Between target_begin and target_end nothing of a half-written image stays without a word: if the
 * operation fails, or SIGINT, SIGTERM or SIGHUP ends the process, files that the subcommand made
 * are removed, and an image that was there before is named. One target at a time, for all of the
 * process.
 */
#ifndef MINIVMM_IMG_TARGET_H
#define MINIVMM_IMG_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"

/* The files that are to be written, which may be there already, by whatever names. */
struct target_files {
    const char *path;
    const char *data_name; /* of an external data file, relative to the image; NULL: none */
};

/*
 * None of them may be one that an open image, or one below it, is read from: asked before they are
 * emptied. Locks would see to that as well, but not for images that are open without any, not where
 * the file system has none, and without a word on why. -EINVAL with *err filled.
 */
int target_check_input(const struct target_files *files, const struct block *input,
                       struct err *err) MUST_CHECK;

/*
 * The same for the backing file that the new image is to have, which need not be there, and against
 * each other.
 */
int target_check_backing(const struct target_files *files, const char *backing,
                         enum block_format format, struct err *err) MUST_CHECK;

/*
 * Does the target, open now, read as zero where nobody has written to it yet? `made`: the
 * subcommand made the image. `promised`: the user says so.
 */
bool target_is_zero(const struct block *target, bool made, bool promised);

/*
 * From now on a signal is such an end. `made`: the subcommand made the file; a device stays where
 * it is. `data_path`: of the image's external data file, or NULL. `position` says how far the
 * operation has come, in bytes; it is called by signal handlers. Paths are copied.
 */
void target_begin(const char *path, const char *data_path, bool made, uint64_t (*position)(void));

/*
 * The operation is over; with `complete` false it has failed and has said why. Nothing happens if
 * none has begun.
 */
void target_end(bool complete);

#endif
