/*
 * Names of images: on a command line, and in the header of an image that has a backing file.
 *
 *   path, file:path                              a file or block device of this host
 *   json:{"driver": "qcow2", "file": {…}}        a description, as for QEMU's -blockdev
 *
 * A description is understood as far as it says what can be done with a local file; anything else
 * is refused by name.
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
    char *data_path; /* of the data file, if it is not to be the one that the image names */
    bool device;     /* the file has to be a device */
    bool readonly;
    bool share;
    bool unlocked; /* file.locking=off */
    bool no_backing;
    bool direct;   /* cache.direct */
    bool no_flush; /* cache.no-flush */
};

void block_name_done(struct block_name *name);

/*
 * A format by name; what reads a file as it is counts as raw, *ret_protocol says which ("file",
 * "host_device", else NULL; may be NULL). 0; -EINVAL if it is not known.
 */
int block_format_parse(const char *text, enum block_format *ret_format,
                       const char **ret_protocol) MUST_CHECK;

/* These: 0 or -errno with *err filled; block_name_done is to be called either way. */

/* What a list of options says: "driver", "file.filename", …; all of them have to be understood. */
int block_name_from_opts(struct opts *opts, struct block_name *ret_name,
                         struct err *err) MUST_CHECK;

/* A text for which block_name_is_json. `driver` decides over what it says; NULL: it does not. */
int block_name_from_json(const char *text, const char *driver, struct block_name *ret_name,
                         struct err *err) MUST_CHECK;

/* Say in `options` what the name says; it has to live as long as they do. */
void block_name_apply(const struct block_name *name, struct block_options *options);

bool block_name_is_json(const char *text);

/*
 * The path of a file that the image at `image` names as its backing or data file; to be freed.
 * -ENOTSUP if that is no file of this host.
 */
int block_name_resolve(const char *image, const char *name, char **ret_path,
                       struct err *err) MUST_CHECK;

/*
 * What an image at `image` has in its header as name and format (NULL: none) of its backing file. A
 * path is relative to the image's folder; one in a description is not, as with QEMU.
 */
int block_name_below(const char *image, const char *text, const char *format,
                     struct block_name *ret_name, struct err *err) MUST_CHECK;

#endif
