/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in files of the scratch folder. What fails fails the test.
 */
#ifndef MINIVMM_TESTS_IMAGE_FILE_H
#define MINIVMM_TESTS_IMAGE_FILE_H

#include <stdint.h>

#include "block/block.h"

/* Open the file `name`, with discards, and without syncs of the host: nobody cuts the power. */
struct block *image_open(const char *name, enum block_format format, bool readonly);

/* The same with other options, whose path is set here. */
struct block *image_open_with(const char *name, struct block_options options);

/* The first `len` bytes of the disk are these. */
void image_assert_shows(struct block *block, const void *expected, size_t len);

/* The same for a qcow2 image of that name, which is opened for it, and is as long. */
void image_assert_file_shows(const char *name, const void *expected, size_t len);

/* Our own check finds neither errors nor leaks in a qcow2 image. */
void image_assert_sound(const char *name);

/* `qemu-img check` finds nothing in it; with `expected`, `qemu-img compare` neither. */
void image_assert_qemu_agrees(const char *name, const void *expected, size_t len);

#endif
