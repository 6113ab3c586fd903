/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying what disks show into an image: the core of `convert` and `dd`.
 *
 * What is read is decided by block status: ranges that are known to be zero, or that the target's
 * backing file shows already, are never read, and long ones cost as much as short ones. Several
 * pieces are under way at once, each in a coroutine of its own; writes begin in the order of the
 * disk, so that the target is laid out as it will be read.
 */
#ifndef MINIVMM_IMG_COPY_H
#define MINIVMM_IMG_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "img/progress.h"

/* Fewer zeroes in a row are not worth a hole. */
#define COPY_MIN_ZEROES 4096u

/* Part of a disk; the parts follow each other in the target. */
struct copy_source {
    struct block *block;
    uint64_t off;
    uint64_t len;
};

struct copy_options {
    const struct copy_source *sources;
    unsigned nsources;
    struct block *target; /* at least as long as the sources together */

    /*
     * Zeroes are not written as data where there are at least so many bytes of them (a multiple of
     * sectors). 0: everything is written.
     */
    uint64_t min_zeroes;
    bool target_is_zero; /* where nothing is written to it */

    /*
     * What the source itself does not have, the backing file of the target shows, as far as that
     * goes (UINT64_MAX: nobody knows how far).
     */
    bool target_has_backing;
    uint64_t backing_len;

    /*
     * As long as the host can do that, let it copy data from the sources' files as it is, zeroes in
     * it included. Not with `compress` or `salvage`.
     */
    bool offload;

    bool compress;
    bool out_of_order;
    unsigned requests; /* in flight; 0: as many as are of use */
    uint64_t rate;     /* bytes of the target in a second; 0: no limit */

    /* Write zeroes for what cannot be read, and say so (unless that is NULL) for each sector. */
    bool salvage;
    void (*unreadable)(uint64_t off, int error, bool status);

    struct progress *progress; /* may be NULL */
};

/*
 * Copy. The images are not attached. The bytes that are to be copied are counted before if the
 * progress is to be shown. 0, or a negative errno with *err filled; what was written until then may
 * be anywhere in the target.
 */
int copy_run(const struct copy_options *options, struct err *err) MUST_CHECK;

/* Where the copy that is running has come to, in bytes of the target: for signal handlers, too. */
uint64_t copy_position(void);

#endif
