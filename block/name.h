/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of images: on a command line, and in the header of an image that has a backing file.
 *
 *   path, file:path                              a file or block device of this host
 *   json:{"driver": "qcow2", "file": {…}}        a description, as for QEMU's -blockdev
 *
 * A description may say what can be done with a local file. Anything else is refused, and the
 * message names it.
 */
#ifndef MINIVMM_BLOCK_NAME_H
#define MINIVMM_BLOCK_NAME_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/file_part.h"
#include "base/opts.h"
#include "block/block.h"

struct block_name {
    char *path;
    enum block_format format; /* PROBE: it does not say */
    const char *protocol;     /* "file" or "host_device" if that was said instead of a format */
    struct file_part part;    /* of the file, with the image in it */
    char *data_path;          /* of the data file; NULL: the one that the image names */
    bool device;              /* the file has to be a device */
    bool readonly;
    bool share;
    bool unlocked; /* file.locking=off */
    bool no_backing;
    bool direct;   /* cache.direct */
    bool no_flush; /* cache.no-flush */
};

void block_name_done(struct block_name *name);

/*
 * The format of a name. QEMU's drivers "file" and "host_device" show a file as it is, and count as
 * raw; *ret_protocol is their name then, else NULL. `ret_protocol` may be NULL. 0, or -EINVAL if
 * the name is not known.
 */
int block_format_parse(const char *text, enum block_format *ret_format,
                       const char **ret_protocol) MUST_CHECK;

/*
 * The three functions block_name_from_opts, block_name_from_json and block_name_below return 0, or
 * a negative errno with *err filled. Call block_name_done in either case.
 */

/* What a list of options says: "driver", "file.filename", …. None may be left over. */
int block_name_from_opts(struct opts *opts, struct block_name *ret_name,
                         struct err *err) MUST_CHECK;

/* What a text says that begins with "json:". `driver`, if not NULL, replaces its driver. */
int block_name_from_json(const char *text, const char *driver, struct block_name *ret_name,
                         struct err *err) MUST_CHECK;

/* Set in `options` what the name says. The name has to live as long as the options. */
void block_name_apply(const struct block_name *name, struct block_options *options);

bool block_name_is_json(const char *text);

/*
 * For what takes a path and nothing else: refuse a name that means something else elsewhere, a
 * description or QEMU's "protocol:name". 0, or -ENOTSUP with *err filled.
 */
int block_name_check_path(const char *text, struct err *err) MUST_CHECK;

/*
 * The path of a file that the image at `image` names as its backing or data file; to be freed.
 * -ENOTSUP if that is no file of this host.
 */
int block_name_resolve(const char *image, const char *name, char **ret_path,
                       struct err *err) MUST_CHECK;

/*
 * What the header of the image at `image` says about its backing file: `text`, and its format if
 * that is not NULL. A path is relative to the image's folder; a path in a description is relative
 * to the working directory, as with QEMU.
 */
int block_name_below(const char *image, const char *text, const char *format,
                     struct block_name *ret_name, struct err *err) MUST_CHECK;

#endif
