/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image files of a VM's disks: what they are called, how they are opened, and what the list of
 * the VM's files says about them. Any thread.
 */
#ifndef MINIVMM_DISK_IMAGE_H
#define MINIVMM_DISK_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/open_files.h"
#include "block/block.h"
#include "block/image_ops.h"
#include "vmm/config/config.h"

#define DISK_NAME_MAX 8

/*
 * The guest's name of disk `index`: "vda" for the first one, "vdaa" after "vdz". The machine has
 * room for fewer disks than there are pairs of letters.
 */
void disk_image_name(unsigned index, char name[DISK_NAME_MAX]);

struct disk_image {
    const struct config *vm;
    unsigned index;
    struct open_files *files;
    const char *overlay; /* the path of a new qcow2 image for the disk; NULL: its own image */
};

/*
 * Open the image of a disk with its backing files, or an overlay without, as the user wants it, and
 * add the files to the list. 0, or a negative errno with *err filled and the list as it was.
 */
int disk_image_open(const struct disk_image *image, struct block **ret_block,
                    struct err *err) MUST_CHECK;

/* Is that part of the file at `path` the image? It waits for the host. */
bool disk_image_is_at(const struct block_details *image, const char *path,
                      const struct file_part *part);

/*
 * An image without those below it, with its data file, if it has one: the list says that it is the
 * disk's, which writes to it, or that it is only read by now.
 */
void disk_image_note_use(struct open_files *files, unsigned index, const struct block *layer,
                         bool is_top);

/* It is not used any more. */
void disk_image_forget(struct open_files *files, const struct block *layer);

#endif
