/*
 * The names of images on a command line. What qemu-img takes there:
 *
 *   path, file:path                              a file or block device of this host
 *   json:{"driver": "qcow2", "file": {…}}        a description, as for QEMU's -blockdev
 *   driver=qcow2,file.filename=path              the same, with --image-opts
 *
 * Descriptions are understood as far as they say what block/ can do; anything else is refused.
 */
#ifndef MINIVMM_IMG_NAME_H
#define MINIVMM_IMG_NAME_H

#include <stdbool.h>

#include "block/block.h"
#include "vmm/base/compiler.h"
#include "vmm/base/err.h"

struct img_name {
    char *path;
    enum block_format format; /* PROBE: it does not say */
    bool readonly;
    bool share;
    bool no_backing;
    bool direct;   /* cache.direct */
    bool no_flush; /* cache.no-flush */
};

/* 0 or -errno with *err filled; to be freed with img_name_done either way. */
int img_name_parse(const char *text, bool image_opts, struct img_name *ret_name,
                   struct err *err) MUST_CHECK;
void img_name_done(struct img_name *name);

/* Is it a format that QEMU has, and block/ has not? */
bool img_format_is_foreign(const char *text);

/* A format by name, for block/. 0; -EINVAL if it is not known. */
int img_format_parse(const char *text, enum block_format *ret_format) MUST_CHECK;

#endif
