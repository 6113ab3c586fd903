/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files an image may name as its backing file, which the guest reads, and as its data file,
 * which the guest writes.
 *
 * An image may come from a stranger, and its header can name any file of the host. A VM's disks are
 * confined: an image may name files in its own folder, and what the user allowed. Symbolic links
 * are followed before that is decided.
 */
#ifndef MINIVMM_BLOCK_CONFINE_H
#define MINIVMM_BLOCK_CONFINE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/file.h"
#include "base/host_places.h"
#include "block/block.h"

struct block_confine {
    bool on;
    const struct file *top; /* the image that the user named */

    /*
     * Paths without symbolic links. The first one is the folder of the path that the user gave for
     * `top`; it is another folder than that of the file if the path is a link. What the user
     * allowed follows.
     */
    char **places;
    unsigned nplaces;
};

/* 0, or a negative errno with *err filled; block_confine_done is to be called either way. */
int block_confine_init(struct block_confine *confine, const struct block_options *options,
                       struct err *err) MUST_CHECK;
void block_confine_done(struct block_confine *confine);

/* Where a file that `namer` names may lie; NULL: anywhere. *places is filled for that. */
const struct host_places *block_confine_places(const struct block_confine *confine,
                                               const struct file *namer,
                                               struct host_places *places);

#endif
