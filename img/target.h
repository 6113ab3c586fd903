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

#include "block/block.h"

/*
 * Is the file at `path` one that the image reads from? Locks see to that as well, but not for
 * images that were opened without any.
 */
bool target_is_source(const char *path, struct block *block);

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
