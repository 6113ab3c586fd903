/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening images for a subcommand.
 */
#ifndef MINIVMM_IMG_OPEN_H
#define MINIVMM_IMG_OPEN_H

#include <stdbool.h>
#include <stdio.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/block.h"
#include "img/name.h"

/* Flags of block_open for every image: to take what QEMU takes. */
#define IMG_BLOCK_FLAGS (BLOCK_OPEN_ANY_RAW | BLOCK_OPEN_CUT_SHORT)

enum {
    IMG_OPEN_WRITABLE = 1 << 0,
    IMG_OPEN_SHARE = 1 << 1,      /* -U */
    IMG_OPEN_NO_BACKING = 1 << 2, /* the image alone: its metadata, or what it has itself */
    IMG_OPEN_CHECK = 1 << 3,      /* for block_check */
    IMG_OPEN_ENCRYPTED = 1 << 5,  /* with NO_BACKING: there is no key, and no need of one */
    IMG_OPEN_ONE_THREAD = 1 << 4, /* compress and inflate on one thread, as a VM does */
};

struct img_open_options {
    const char *name;
    bool image_opts;    /* it is a list of options */
    const char *format; /* NULL: as the name says, or as the file looks */
    unsigned flags;     /* IMG_OPEN_… */
    const char *cache;  /* a mode that img_cache_parse knows; NULL: writeback */
    unsigned write_backing;
    enum block_aio aio;
    unsigned without; /* BLOCK_WITHOUT_… */
};

/* Returns NULL if the image cannot be opened, and has printed why. To be closed with img_close. */
struct block *img_open(const struct img_open_options *options) MUST_CHECK;

/*
 * The name of the image alone: its path, and the format if that was said. 0 or -errno with *err
 * filled; block_name_done is to be called either way.
 */
int img_open_name(const struct img_open_options *options, struct block_name *ret_name,
                  struct err *err) MUST_CHECK;

/*
 * Open what the image at `image_path` is to have below itself: `name` is relative to its folder.
 * `format` NULL is found out, and `options` say the rest. 0, or -errno and *ret_why says why, in
 * qemu-img's words, which may be two lines; to be freed.
 */
int img_open_backing(const char *image_path, const char *name, const char *format,
                     const struct block_options *options, struct block **ret_block,
                     char **ret_why) MUST_CHECK;

/* After the message that a file could not be locked: say which process may have the lock. */
void img_explain_in_use(FILE *text, const char *path);

/* A cache mode by name; *ret_writethrough: every write is durable when it is done. 0 or -EINVAL. */
int img_cache_parse(const char *mode, enum block_cache *ret_cache,
                    bool *ret_writethrough) MUST_CHECK;

/* Close an image; `status` unless that is 0 and writing the rest fails, which is printed. */
int img_close(struct block *block, const char *name, int status);

#endif
