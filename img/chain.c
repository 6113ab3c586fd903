/* SPDX-License-Identifier: Apache-2.0 */
#include "img/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file_host.h"
#include "block/image.h"
#include "img/name.h"
#include "img/open.h"

static bool same_file(const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* What an image says about the one below it, and about its data file. */
struct below {
    char *text;             /* the name in the image; NULL: there is none */
    struct block_name name; /* no path: there is none, or it is no file of the host */
    char *data_path;        /* NULL: the same */
};

static void below_done(struct below *below)
{
    free(below->text);
    free(below->data_path);
    block_name_done(&below->name);
}

static int describe_below(const struct block_name *image, const struct block_details *details,
                          struct below *below, struct err *err)
{
    enum block_format format;
    struct block_name data;

    if (details->data_name && !image->data_path) {
        if (block_name_below(details->path, details->data_name, NULL, &data, NULL) == 0) {
            below->data_path = data.path;
            data.path = NULL;
        }
        block_name_done(&data);
    } else if (image->data_path) {
        below->data_path = strdup(image->data_path);
    }
    if (!details->backing_name || image->no_backing)
        return 0;
    if (details->backing_format && img_format_parse(details->backing_format, &format) < 0)
        return err_set(err, -ENOTSUP, "Unknown driver '%s'", details->backing_format);
    below->text = strdup(details->backing_name);
    if (!below->text)
        return err_set(err, -ENOMEM, "out of memory");
    return block_name_below(details->path, details->backing_name, details->backing_format,
                            &below->name, err);
}

/* *below is to be freed with below_done, whatever is returned. */
static int look_below(const struct block_name *name, struct below *below, struct err *err)
{
    struct block_options options = {.readonly = true};
    struct block_details details;
    struct block *block;
    int r;

    *below = (struct below){.text = NULL};
    block_name_apply(name, &options);
    options.readonly = true;
    options.flags |= BLOCK_OPEN_ALONE | BLOCK_OPEN_SHARE | IMG_BLOCK_FLAGS;
    r = block_open(&options, &block, err);
    if (r < 0)
        return r;
    block_get_details(block, &details);
    r = describe_below(name, &details, below, err);
    (void)block_close(block); /* only read */
    return r;
}

/*
 * Go down from `image` until `found` says so of an image and what is below it. 1, 0 if it never
 * does, or -errno with *err filled; *ret_depth says how far that was.
 */
static int walk(const struct block_name *image,
                bool (*found)(const char *path, const struct below *below, const void *opaque),
                const void *opaque, unsigned *ret_depth, struct err *err)
{
    struct below at = {.name = *image}; /* the first one is not ours to free */
    struct below next = {.text = NULL};
    unsigned depth = 0;
    int r = 0;

    while (r == 0 && at.name.path && depth < BLOCK_CHAIN_MAX) {
        r = look_below(&at.name, &next, err);
        if (r == 0)
            r = found(at.name.path, &next, opaque);
        if (depth++ > 0)
            below_done(&at);
        at = next;
    }
    if (depth > 0)
        below_done(&at);
    *ret_depth = depth;
    return r;
}

/* Does the image at `path`, which has the backing file `below`, call it what `opaque` says? */
static bool is_called(const char *path, const struct below *below, const void *opaque)
{
    const char *base = opaque;
    struct block_name name;
    bool found;

    if (!below->text || !base)
        return below->text;
    found = strcmp(below->text, base) == 0;
    if (!found) {
        found = block_name_below(path, base, NULL, &name, NULL) == 0 &&
                same_file(name.path, below->name.path);
        block_name_done(&name);
    }
    return found;
}

int chain_find(const struct block_name *image, const char *base, unsigned *ret_depth,
               struct err *err)
{
    unsigned depth;
    int r = walk(image, is_called, base, &depth, err);

    if (r < 0)
        return r;
    *ret_depth = r > 0 ? depth : 0;
    return 0;
}

static bool is_file(const char *path, const uint64_t id[2])
{
    uint64_t its_id[2];
    struct stat st;

    if (!path || stat(path, &st) < 0)
        return false;
    file_host_identify(&st, its_id);
    return memcmp(its_id, id, sizeof(its_id)) == 0;
}

static bool names_file(const char *path, const struct below *below, const void *opaque)
{
    const uint64_t *id = opaque;

    return is_file(below->data_path, id) || is_file(below->name.path, id);
}

bool chain_has_file(const struct block_name *image, const uint64_t id[2])
{
    unsigned depth;

    return is_file(image->path, id) || walk(image, names_file, id, &depth, NULL) > 0;
}
