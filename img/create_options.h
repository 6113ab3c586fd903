/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of a new image: -o and whatever else on the command line says the same. For create,
 * convert, dd and measure.
 *
 *   create_options_init     the format
 *   create_options_parse    -o: keys that the format has, with values of their type
 *   create_options_take     the values, as block_create wants them
 *
 * As qemu-img does, what is wrong with a single value is found by the third step, the "Formatting"
 * line is printed before that, and whether they go together is for block_create to say.
 */
#ifndef MINIVMM_IMG_CREATE_OPTIONS_H
#define MINIVMM_IMG_CREATE_OPTIONS_H

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "block/image.h"
#include "img/opts.h"

struct create_options {
    const char *format_name;
    enum block_format format;
    bool amend; /* for amend: other keys */
    struct opts opts;
};

/* The format of a new image by its name. 0 or -errno with *err filled. */
int create_options_format(const char *name, enum block_format *ret_format,
                          struct err *err) MUST_CHECK;

/* As create_options_format. To be freed with create_options_done. */
int create_options_init(struct create_options *options, const char *format,
                        struct err *err) MUST_CHECK;
void create_options_done(struct create_options *options);

/* Add the elements of a list. 0 or -errno with *err filled. */
int create_options_parse(struct create_options *options, const char *text,
                         struct err *err) MUST_CHECK;

/* Add the disk's length, as a plain number of bytes, which is how it is printed. 0 or -errno. */
int create_options_set_len(struct create_options *options, uint64_t len,
                           struct err *err) MUST_CHECK;

/* Add a backing file and its format, both or one or none (NULL). 0 or -errno with *err filled. */
int create_options_set_backing(struct create_options *options, const char *file, const char *format,
                               struct err *err) MUST_CHECK;

/* "Formatting 'path', fmt=…", on stdout and at once. */
void create_options_print(const struct create_options *options, const char *path);

/*
 * What block_create needs, except for `path` and `len`, which is `size` if that was given. Texts
 * are those of the options. 0 or -errno with *err filled.
 */
int create_options_take(struct create_options *options, struct block_create_options *ret_create,
                        struct err *err) MUST_CHECK;

/* A way to preallocate, by name. 0 or -EINVAL. */
int prealloc_parse(const char *text, enum block_prealloc *ret_prealloc) MUST_CHECK;

/* ---- amend ----------------------------------------------------------------------------------- */

/* What block_amend needs; its text is that of the options. 0 or -errno with *err filled. */
int create_options_take_amend(struct create_options *options, struct block_amend_options *ret_amend,
                              struct err *err) MUST_CHECK;

/* Is it a key for new images only? */
bool create_options_only_create(const char *key);

/* What -o help prints. */
void create_options_help_amend(void);

/* ---- output ---------------------------------------------------------------------------------- */

/* What -o help prints; `with_file`: also what concerns the file that the image is in. */
void create_options_help(enum block_format format, bool with_file);

/*
 * Print why an image was not made: "path: …", and what qemu-img adds to some messages. *err comes
 * from block_create, or from one of the functions above. `doing`, unless NULL: what it was for, as
 * in "path: error while doing: …".
 */
void create_options_error(const char *path, const char *doing, const struct err *err);

#endif
