/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making images: what is common to the formats. The files are filled before they get their names,
 * so a process that ends in between leaves nothing.
 */
#include "block/create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "block/driver.h"
#include "block/env.h"
#include "block/name.h"
#include "block/qcow2/image/create.h"
#include "block/raw.h"
#include "block/space.h"

int block_create_check(const struct block_create_options *options, struct err *err)
{
    if (options->extent_size_hint > UINT32_MAX)
        return err_set(err, -EINVAL, "Extent size hint is too large");
    switch (options->format) {
    case BLOCK_FORMAT_RAW:
        return raw_create_check(options, err);
    case BLOCK_FORMAT_QCOW2:
        return qcow2_create_check(options, err);
    default:
        return err_set(err, -EINVAL, "%s: expected format qcow2 or raw", options->path);
    }
}

/* qcow2 zeroes the clusters that a new image has from the start, on a device too. */
bool block_new_is_zero(const struct block *block)
{
    return block->driver != &raw_driver || !block->file->fixed_len;
}

/* An image that is being made. */
struct creation {
    const struct block_env *env;
    struct block_create_options options;
    struct block *backing; /* held open, and so locked, meanwhile; may be NULL */
    struct file *file;
    struct file *data_file; /* NULL if there is none */
    char *data_path;
};

/* The new image must not name itself. */
static int check_other(const struct creation *c, const char *path, const char *what,
                       struct err *err)
{
    if (strcmp(path, c->options.path) != 0)
        return 0;
    return err_set(err, -EINVAL, "%s: the image cannot be its own %s", c->options.path, what);
}

static int find_data_path(struct creation *c, struct err *err)
{
    int r = block_name_resolve(c->options.path, c->options.data_file, &c->data_path, err);

    return r < 0 ? r : check_other(c, c->data_path, "data file", err);
}

static int open_backing(struct creation *c, struct err *err)
{
    bool needed = c->options.len == BLOCK_LEN_BACKING || !c->options.backing_unchecked;
    struct block_options open = {.readonly = true};
    struct block_name name;
    int r = block_name_below(c->options.path, c->options.backing_file, NULL, &name, err);

    if (r == 0)
        r = check_other(c, name.path, "backing file", err);
    else if (!needed)
        r = 0; /* a name that is no file of this host: nobody has to open it now */
    if (r == 0 && needed) {
        block_name_apply(&name, &open);
        if (c->options.backing_format != BLOCK_FORMAT_PROBE)
            open.format = c->options.backing_format;
        r = block_open_in(c->env, &open, &c->backing, err);
        if (r < 0)
            err_prefix(err, "backing file of %s", c->options.path);
    }
    block_name_done(&name);
    return r;
}

static int find_len(struct creation *c, struct err *err)
{
    struct block_create_options *options = &c->options;

    if (options->len == BLOCK_LEN_BACKING) {
        if (!c->backing)
            return err_set(err, -EINVAL, "%s: Image creation needs a size parameter",
                           options->path);
        options->len = c->backing->len;
    }
    if (options->len > INT64_MAX - BLOCK_SECTOR_SIZE)
        return block_too_large(options, err);
    options->len = align_up(options->len, BLOCK_SECTOR_SIZE);
    return 0;
}

static int create_file(struct creation *c, const char *path, struct file **ret_file,
                       struct err *err)
{
    const struct file_host_options options = {
        .writable = true,
        .exclusive = c->options.exclusive,
        .hints = {.nocow = c->options.nocow, .extent_size = (uint32_t)c->options.extent_size_hint},
    };

    return c->env->create_file(c->env, path, &options, ret_file, err);
}

static int create_files(struct creation *c, struct err *err)
{
    int r = 0;

    if (c->options.data_file)
        r = find_data_path(c, err);
    if (r == 0)
        r = create_file(c, c->options.path, &c->file, err);
    if (r == 0 && c->data_path)
        r = create_file(c, c->data_path, &c->data_file, err);
    return r;
}

static int fill_files(struct creation *c, struct err *err)
{
    if (c->options.format == BLOCK_FORMAT_QCOW2)
        return qcow2_create(&c->options, c->file, c->data_file, err);
    return raw_create(&c->options, c->file, err);
}

/* The data file gets its name first: without it the image could not be opened. */
static int keep_files(struct creation *c, struct err *err)
{
    int r = 0;

    if (c->data_file)
        r = c->env->keep_file(c->env, c->data_file, c->data_path, err);
    return r < 0 ? r : c->env->keep_file(c->env, c->file, c->options.path, err);
}

/* The image goes first, so that at no moment there is an image without its data file. */
static void drop_files(struct creation *c)
{
    if (c->file)
        c->env->drop_file(c->env, c->file, c->options.path);
    if (c->data_file)
        c->env->drop_file(c->env, c->data_file, c->data_path);
}

int block_create_in(const struct block_env *env, const struct block_create_options *options,
                    struct err *err)
{
    struct creation c = {.env = env, .options = *options};
    int r = block_create_check(options, err);

    if (r == 0 && options->backing_file)
        r = open_backing(&c, err);
    if (r == 0)
        r = find_len(&c, err);
    if (r == 0)
        r = create_files(&c, err);
    if (r == 0)
        r = fill_files(&c, err);
    if (r == 0)
        r = keep_files(&c, err);
    if (r < 0) {
        drop_files(&c);
    } else {
        file_free(c.data_file);
        file_free(c.file);
    }
    (void)block_close(c.backing); /* only read */
    free(c.data_path);
    return r;
}

int block_create(const struct block_create_options *options, struct err *err)
{
    return block_create_in(&block_host_env, options, err);
}
