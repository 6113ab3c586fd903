/*
 * Which files images may name: a backing file that the guest reads, a data file that it writes.
 *
 * An image comes from anywhere, and its header names any file of the host. A VM's disks are
 * confined: a name is good for what lies in the folder of the image that has it, after symbolic
 * links, and for what the user allowed.
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
     * Without symbolic links: the folder of the name that the user gave for it, which is another
     * than the image's own if that name is a link, then what he allowed.
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
